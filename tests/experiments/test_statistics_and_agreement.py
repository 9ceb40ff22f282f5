import math
from pathlib import Path

import numpy as np
import pytest

from experiments import agreement
from experiments.statistics import interval, plus_minus, relative_difference, weights_difference
from experiments.trial import Result, Trial


def test_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    # t(0.975, 2) = 4.302653, from the tables; s = 1.527525
    assert half == pytest.approx(4.302653 * 1.527525 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval([3.0])[1])
    assert plus_minus([3.0], ".1f") == "3.0"
    assert plus_minus([0.9, 0.9], ".1f", 100) == "90.0 ± 0.0"


def test_relative_difference_forgets_nothing() -> None:
    a = np.array([1.0, 0.0, np.nan, np.nan, 1.0, np.inf, 2.0])
    b = np.array([1.0, 0.0, np.nan, 1.0, np.nan, np.inf, 1.0])
    np.testing.assert_array_equal(
        relative_difference(a, b), [0.0, 0.0, 0.0, np.inf, np.inf, 0.0, 0.5]
    )
    weights = {"w": np.array([4.0, 1e-30]), "b": np.zeros(2)}
    assert weights_difference(weights, weights) == 0
    assert weights_difference(weights, {**weights, "w": np.array([4.0, 1.0])}) == 0.25
    assert weights_difference(weights, {**weights, "w": np.array([4.0, np.nan])}) == math.inf


def result(backprop: str, loss: float, weight: float, folder: Path, by_hand: bool = True) -> Result:
    np.savez(folder / "weights.npz", w=np.array([weight]))
    return Result(
        trial=Trial(f"trial-{backprop}", {"backprop": backprop, "seed": 0}, {}),
        folder=folder,
        metrics={},
        curves={"train/loss": np.array([1.0, loss])},
        all_by_hand=by_hand if backprop == "manual" else None,
        seconds=0.0,
        current=True,
    )


@pytest.mark.parametrize(
    ("loss", "weight", "by_hand", "agrees", "sentence"),
    [
        (0.5, 2.0, True, True, "agree"),
        (0.5 * (1 + 1e-8), 2.0, True, False, "PART"),
        (0.5, 2.0 * (1 + 1e-8), True, False, "PART"),
        (float("nan"), 2.0, True, False, "PART"),
        (0.5, 2.0, False, False, "autograd nodes in trial-manual"),
    ],
)
def test_a_planted_difference_is_seen(
    loss: float, weight: float, by_hand: bool, agrees: bool, sentence: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "manual", tmp_path / "autograd"]
    for folder in folders:
        folder.mkdir()
    both = [
        result("manual", loss, weight, folders[0], by_hand),
        result("autograd", 0.5, 2.0, folders[1]),
    ]
    matched = agreement.pairs(both, lambda r: r.trial.labels["seed"])
    assert len(matched) == 1
    said, verdict = agreement.verdict(both, matched)
    assert verdict is agrees and sentence in said
    assert agreement.verdict(both[1:], [])[1] is None
