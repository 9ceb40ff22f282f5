from pathlib import Path

import numpy as np
import pytest

from experiments.measures import best_rate, costs, late_loss, step_shrinkage, steps_to
from experiments.studies.optimizers import ARMS
from experiments.trial import Result, Trial
from experiments.tuning import beyond as next_rates


def result(rate: float, **curves: list[float]) -> Result:
    return Result(
        trial=Trial("tuning", {"arm": "SGD", "rate": rate}, {}),
        folder=Path(),
        metrics={},
        curves={name.replace("_", "/"): np.array(values) for name, values in curves.items()},
        all_by_hand=None,
        seconds=0.0,
        current=True,
    )


def tuned(losses: dict[float, float]) -> list[Result]:
    return [result(rate, val_loss=[loss, loss]) for rate, loss in losses.items()]


@pytest.mark.parametrize(
    ("losses", "beyond"),
    [
        ({0.1: 2.0, 0.3: 1.0, 1.0: 3.0}, []),
        ({0.1: 1.0, 0.3: 2.0}, [0.03]),
        ({0.03: 1.0, 0.1: 2.0}, [0.01]),
        ({0.1: 2.0, 0.3: 1.0}, [1.0]),
        ({0.3: 2.0, 1.0: 1.0}, [3.0]),
        ({1.0: 1.0, 3.0: float("nan")}, [0.3]),
    ],
)
def test_a_grid_is_widened_where_its_last_rate_is_best(
    losses: dict[float, float], beyond: list[float]
) -> None:
    assert next_rates(tuned(losses)) == beyond


def test_a_training_that_diverged_costs_without_bound() -> None:
    runs = tuned({0.1: 1.0, 0.3: float("nan")})
    assert costs(runs) == {0.1: [1.0], 0.3: [np.inf]}
    assert best_rate(runs) == 0.1


def test_measures() -> None:
    trained = result(
        1.0,
        val_step=[5, 10, 15],
        val_accuracy=[0.5, 0.9, 0.8],
        train_loss=[*[1.0] * 18, 0.2, 0.4],
        step_ratio=[*[2.0] * 10, *[0.5] * 10],
    )
    assert steps_to(0.9, trained) == 10
    assert steps_to(0.95, trained) == np.inf
    assert late_loss(trained) == pytest.approx(0.3)
    assert step_shrinkage(trained) == 0.25


def test_every_grid_is_a_decade_and_a_half_of_ones_and_threes() -> None:
    for arm in ARMS:
        assert len(arm.rates) >= 6 and all(f"{rate:e}"[0] in "13" for rate in arm.rates)
        ratios = np.diff(np.log10(arm.rates))
        assert ratios.min() > 0.45 and ratios.max() < 0.55
