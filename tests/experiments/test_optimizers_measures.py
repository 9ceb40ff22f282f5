from pathlib import Path

import numpy as np
import pytest

from experiments.measures import basin, best_rate, costs, late_loss, step_shrinkage, steps_to
from experiments.parts.optimizers import ARMS, ahead, mnist5k
from experiments.parts.optimizers.full_batch import loss_after
from experiments.study import Options
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


def test_a_question_about_the_training_tunes_by_its_own_curve() -> None:
    runs = [result(0.1, val_loss=[1.0], train_loss=[2.0])]
    runs += [result(0.3, val_loss=[9.0], train_loss=[1.0])]
    assert best_rate(runs) == 0.1
    assert best_rate(runs, "train/loss") == 0.3
    assert next_rates(runs, "train/loss") == [1.0]


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


@pytest.mark.parametrize(
    ("losses", "width", "closed"),
    [
        # 1.2 lies half way from 1 to 1.4 and a fifth of the way from 1 to 2
        ({0.01: 2.0, 0.1: 1.0, 1.0: 1.4}, 0.2 + 0.5, True),
        ({0.01: 1.1, 0.1: 1.0, 1.0: 1.4}, 1.0 + 0.5, False),
        ({0.01: 1.4, 0.1: 1.0, 1.0: float("inf")}, 0.5, True),
        ({0.01: 1.0, 0.1: 3.0, 1.0: 1.1}, 0.1, False),  # a second valley does not count
    ],
)
def test_the_basin_is_what_costs_little_more_than_the_best(
    losses: dict[float, float], width: float, closed: bool
) -> None:
    found, ends = basin(tuned(losses))
    assert found == pytest.approx(width)
    assert ends is closed


def test_ahead_means_under_every_seed() -> None:
    steps = {"SGD": [100.0, 100.0], "Adam": [60.0, 90.0], "Momentum": [20.0, 101.0]}
    assert ahead(steps, ["Adam"])
    assert not ahead(steps, ["Adam"], share=0.7)
    assert not ahead(steps, ["Adam", "Momentum"])
    assert not ahead({**steps, "Adam": [60.0, np.inf]}, ["Adam"])


def test_the_loss_is_taken_where_the_gradients_are_spent() -> None:
    spent = result(1.0, evaluations=[6, 12, 18], train_loss=[3.0, 2.0, 1.0])
    assert [loss_after(n, spent) for n in (6, 17, 60)] == [3.0, 2.0, 1.0]


def test_without_the_images_they_are_left_out_with_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    plan = mnist5k.plan(Options())
    with pytest.raises(StopIteration) as ended:
        next(plan)
    part = ended.value.value
    assert part.verdict.holds is None and part.figure is None
    assert "pip install 'manual-bp[mnist]'" in part.warnings[0]
