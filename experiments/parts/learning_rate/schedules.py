"""Schedules that lower the rate, where there is noise to escape from."""

from collections.abc import Sequence

import numpy as np

from experiments.measures import by_arm, late_loss
from experiments.parts.learning_rate import with_noise
from experiments.study import Options, Prediction, Verdict, judge
from experiments.trial import Result, Trial

SHAPES = ("constant", "1/sqrt", "step", "cosine")

PREDICTION = Prediction(
    claim="A rate that falls ends lower than the same rate held: noise keeps a constant one at a "
    "distance from the minimum.",
    source="Robbins & Monro 1951; Bottou et al. 2018, section 4.2 (arXiv:1606.04838)",
    refuted_if="the training loss at the end is not below that of the constant rate for 1/sqrt, "
    "step and cosine, as a mean over the seeds",
)


def trials(options: Options) -> list[Trial]:
    """All schedules, from the same rate; the short form has one of them."""
    return [
        with_noise(
            "schedules",
            shape,
            0.08,
            seed,
            options,
            batch=8,
            learner="experiments.training.squared_error.SquaredError",
            shape=shape,
            hidden=[],
        )
        for shape in (("cosine",) if options.fast else SHAPES)
        for seed in options.range(3)
    ]


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether each of them ends below the constant rate."""
    ends = {
        shape: float(np.mean([late_loss(r) for r in by_arm(results, shape)]))
        for shape in SHAPES
        if by_arm(results, shape)
    }
    return judge(
        PREDICTION,
        all(ends[shape] < ends.get("constant", np.inf) for shape in ends if shape != "constant"),
        "training loss at the end: " + ", ".join(f"{s} {loss:.4f}" for s, loss in ends.items()),
        options,
    )
