"""A small network without noise, whose curvature adapts to the rate."""

from collections.abc import Sequence

import numpy as np

from experiments.measures import by_arm
from experiments.parts.learning_rate import without_noise
from experiments.statistics import plus_minus
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

RATES = {"rate 0.1": 0.1, "rate 0.5": 0.5, "rate 0.7": 0.7}
SHORT = "rate 0.5"
"""The rate of the short form."""

PREDICTION = Prediction(
    claim="Trained without noise, a network becomes sharper until it is at the edge of stability: "
    "its sharpness then hovers at 2/rate, and the loss goes up and down, and still falls.",
    source="Cohen et al. 2021, section 3 (arXiv:2103.00065)",
    refuted_if="the mean sharpness over the last third of 700 steps is not 0.95 to 1.15 of 2/rate "
    "at rate 0.5 or 0.7; or fewer than 5 % of the last half's steps raise the "
    "loss; or the loss at the end is not below 0.9 of that at half the training; under any seed",
)


def trials(options: Options) -> list[Trial]:
    """All rates; the short form has one of them."""
    steps = 40 if options.fast else 700
    return [
        without_noise(
            "edge", arm, RATES[arm], seed, options, hidden=(64, 64), steps=steps, centred=True
        )
        for arm in ((SHORT,) if options.fast else RATES)
        for seed in options.range(3)
    ]


def hovering(result: Result) -> float:
    """The mean sharpness over the last third of a training, in units of 2/rate."""
    values = result.curves["sharpness/value"]
    return float(np.mean(values[-(len(values) // 3) :])) * result.trial.labels["rate"] / 2


def rising(result: Result) -> float:
    """The share of the steps of the second half that raise the loss."""
    losses = result.curves["train/loss"]
    return float(np.mean(np.diff(losses[len(losses) // 2 :]) > 0))


def falling(result: Result) -> float:
    """The loss of the last step over that at half of the training."""
    losses = result.curves["train/loss"]
    return float(losses[-1] / losses[len(losses) // 2])


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether the two larger rates come to the edge, and still descend."""
    at_edge = [r for r in results if r.trial.labels["rate"] >= 0.5]
    held = [0.95 <= hovering(r) <= 1.15 and rising(r) >= 0.05 and falling(r) < 0.9 for r in at_edge]
    found = []
    for arm, rate in RATES.items():
        if rate >= 0.5 and (own := by_arm(results, arm)):
            mean = np.mean([hovering(r) for r in own]) * 2 / rate
            found.append(f"{mean:.2f} against {2 / rate:.2f}")
    shares = [rising(r) for r in at_edge]
    return judge(
        PREDICTION,
        all(held),
        f"sharpness against 2/rate: {', '.join(found)}; {min(shares):.0%} to {max(shares):.0%} of "
        "the steps raise the loss",
        options,
    )


def table(results: Sequence[Result]) -> Table:
    """The sharpness that each rate leads to, and the losses on the way."""
    rows = [
        (
            f"{rate:g}",
            f"{2 / rate:.2f}",
            plus_minus([hovering(r) * 2 / rate for r in by_arm(results, arm)], ".2f"),
            f"{np.mean([rising(r) for r in by_arm(results, arm)]):.0%}",
            plus_minus([float(r.curves["train/loss"][-1]) for r in by_arm(results, arm)], ".3f"),
        )
        for arm, rate in RATES.items()
        if by_arm(results, arm)
    ]
    return Table(
        "Gradient descent without noise",
        ("rate", "2/rate", "sharpness", "steps that raise the loss", "loss at the end"),
        rows,
        note="Sharpness: mean over the last third of the training. Steps: of its second half.",
    )
