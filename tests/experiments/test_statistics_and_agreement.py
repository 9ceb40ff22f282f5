import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import agreement
from experiments.statistics import interval, plus_minus, relative_difference
from experiments.trial import Result, Trial


def test_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    # t(0.975, 2) = 4.302653, from the tables; s = 1.527525
    assert half == pytest.approx(4.302653 * 1.527525 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval([3.0])[1])
    assert plus_minus([3.0], ".1f") == "3.0"
    assert plus_minus([0.9, 0.9], ".1f", 100) == "90.0 ± 0.0"


def test_the_interval_of_a_training_that_diverged_warns_of_nothing() -> None:
    assert interval([1e306, 3e306]) == (2e306, math.inf)
    assert math.isnan(interval([1.0, math.inf])[1]) and math.isnan(interval([1.0, math.nan])[1])


def test_relative_difference_forgets_nothing() -> None:
    a = np.array([1.0, 0.0, np.nan, np.nan, 1.0, np.inf, 2.0])
    b = np.array([1.0, 0.0, np.nan, 1.0, np.nan, np.inf, 1.0])
    np.testing.assert_array_equal(
        relative_difference(a, b), [0.0, 0.0, 0.0, np.inf, np.inf, 0.0, 0.5]
    )


def result(compared: dict[str, Any] | None = None, by_hand: bool = True) -> Result:
    kind = "both" if compared is not None else "autograd"
    found = {
        "gradients": {"a": 1e-15, "b": 2e-15},
        "weights": {"a": 3e-16},
        "same_weights": 4e-16,
        "probes": 2,
        "parted": None,
        "wrong": None,
    }
    return Result(
        trial=Trial("one", {}, {"model": {"init_args": {"backprop": kind}}}),
        folder=Path(),
        metrics={},
        curves={"error/loss": np.array([0.0, 5e-15])},
        all_by_hand=None if compared is None else by_hand,
        seconds=0.0,
        current=True,
        compared=None if compared is None else found | compared,
    )


PARTED = "the gradient of b at step 7 (relative error 2.0e-09)"
WRONG = "the gradient of a at step 50 (relative error 1.0e-06)"


@pytest.mark.parametrize(
    ("compared", "by_hand", "agrees", "sentences"),
    [
        ({}, True, True, ["autograd agree: over 1 training in step", "5.0e-15 in the loss"]),
        ({}, False, False, ["The audit found autograd nodes in one."]),
        (
            {"parted": PARTED},
            True,
            True,
            ["agree.", "amplifies rounding", f"first in {PARTED}; at", "agree to 4.0e-16"],
        ),
        ({"parted": PARTED, "wrong": WRONG}, True, False, ["PART", f"in one first {WRONG}"]),
        ({"parted": PARTED, "probes": 0}, True, False, ["PART", PARTED]),
    ],
)
def test_what_is_said_of_a_pair(
    compared: dict[str, Any], by_hand: bool, agrees: bool, sentences: list[str]
) -> None:
    said, verdict = agreement.verdict([result(compared, by_hand)])
    assert verdict is agrees
    assert all(sentence in said for sentence in sentences), said


def test_one_close_pair_among_two_is_counted() -> None:
    said, verdict = agreement.verdict([result({}), result({"parted": PARTED})])
    assert verdict and "over 1 of 2 trainings" in said and "In 1 of 2 the training" in said


def test_with_autograd_alone_there_is_nothing_to_compare() -> None:
    said, verdict = agreement.verdict([result()])
    assert verdict is None and "nothing to compare" in said
