"""The arms of the study ``batchnorm``, what it measures on them, and its tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.figures import style
from experiments.measures import by_arm, costs, late_loss, steps_to
from experiments.statistics import over, plus_minus
from experiments.study import Table
from experiments.trial import Result
from experiments.tuning import SEED

SHIFTED = "BatchNorm, shifted"
RATES = {
    "none": (0.3, 1, 3, 10),
    "BatchNorm": (0.3, 1, 3, 10, 30, 100),
    "LayerNorm": (0.1, 0.3, 1, 3, 10),
}
HIGH = 30
"""A learning rate that is far too high, though not for every arm."""
SHIFT = 4.0
"""Shifts after BatchNorm are uniform in ±4, about as far as a sigmoid tells values apart."""
EVERY = 5
"""Steps from one look at the units to the next."""
TRAINED = 0.5
"""A training loss (nats) below which a network has learned; chance is 2.303."""

COLOURS = {
    "none": style.RED,
    "BatchNorm": style.BLUE,
    "LayerNorm": style.GREEN,
    SHIFTED: style.PINK,
}


def typical(quantity: str, results: Sequence[Result]) -> np.ndarray:
    """How far the median of a typical unit's input moves, one number a result.

    Args:
        quantity: "travel", over the whole training, or "jump", from one look to the next.
        results: Of one arm.
    """
    return np.array([np.median(result.curves[quantity]) for result in results])


def mean_steps(steps: Sequence[float] | np.ndarray, longest: int) -> str:
    """The mean as text; of trainings that did not get there, that it is longer than they."""
    known = "" if np.isfinite(steps).all() else "over "
    return f"{known}{np.mean(np.minimum(steps, longest)):.0f}"


def compared(final: Sequence[Result], best: Mapping[str, float]) -> Table:
    """How fast each arm trains, and how far its units' inputs move."""
    longest = len(final[0].curves["train/loss"])
    rows = [
        (
            arm,
            f"{best[arm]:g}",
            mean_steps([steps_to(0.9, r) for r in by_arm(final, arm)], longest),
            f"{np.mean(typical('travel', by_arm(final, arm))):.1f}",
            f"{np.mean(typical('jump', by_arm(final, arm))):.2f}",
            plus_minus([late_loss(r) for r in by_arm(final, arm)], ".3f"),
            plus_minus([r.metrics["test/accuracy"] for r in by_arm(final, arm)], ".1f", 100) + " %",
        )
        for arm in COLOURS
    ]
    return Table(
        "Three layers of a hundred sigmoids",
        ("normalization", "lr", "to 90 %", "travel", "jump", "loss", "test accuracy"),
        rows,
        note=f"{over(len(by_arm(final, 'none')))} To 90 %: training steps until that validation "
        "accuracy. Travel: from the lowest to the highest median of what a typical unit of the "
        f"last hidden layer receives; jump: from one median to that {EVERY} steps later. Shifted: "
        f"by random numbers in ±{SHIFT:g}, new at every step, at BatchNorm's rate. Loss: in "
        "training, mean of the last tenth.",
    )


def rates(tuning: Sequence[Result], high: Sequence[Result]) -> Table:
    """The lowest and the highest rate at which each arm trains."""
    rows = []
    for arm in RATES:
        ends = {r.trial.labels["rate"]: late_loss(r) for r in by_arm(tuning, arm)}
        trained = [rate for rate in costs(by_arm(tuning, arm)) if ends[rate] <= TRAINED]
        rows.append(
            (
                arm,
                f"{trained[0]:g}" if trained else "none",
                f"{trained[-1]:g}" if trained else "none",
                plus_minus([late_loss(r) for r in by_arm(high, arm)], ".2f"),
            )
        )
    return Table(
        "Learning rates at which it trains",
        ("normalization", "lowest", "highest", f"training loss at {HIGH}"),
        rows,
        note=f"Trains: a training loss below {TRAINED} over the last tenth of 1000 steps, on seed "
        f"{SEED}; the lowest and highest are of the rates that were tried. Chance is 2.303.",
    )
