"""A linear model on the squared error, a quadratic: rates on either side of 2/sharpness."""

from collections.abc import Sequence

import numpy as np

from experiments.measures import by_arm
from experiments.parts.learning_rate import without_noise
from experiments.study import Options, Prediction, Verdict, judge
from experiments.trial import Result, Trial

PRODUCTS = {"1.95/sharpness": 1.95, "2.05/sharpness": 2.05}
"""The rate times the sharpness."""

PREDICTION = Prediction(
    claim="On a quadratic, gradient descent is stable below 2/sharpness and diverges above it, by "
    "the factor (1 - rate x sharpness)^2 a step.",
    source="LeCun et al. 1998, Efficient BackProp, section 5.1; Goodfellow et al. 2016, section "
    "4.3.1",
    refuted_if="at 1.95/sharpness the loss of a linear model ever rises, or at 2.05/sharpness its "
    "last step does not multiply it by 1.1025 to 1 %, under any seed",
)


def measuring(options: Options) -> list[Trial]:
    """The one step that measures the sharpness, by which the rates are chosen."""
    return [without_noise("sharpness", "linear", 1e-3, 0, options, hidden=(), steps=1)]


def trials(measured: Result, options: Options) -> list[Trial]:
    """Both rates; a quadratic has the same sharpness everywhere."""
    sharpness = float(measured.curves["sharpness/value"][0])
    steps = 60 if options.fast else 150
    return [
        without_noise(
            "quadratic", arm, float(f"{c / sharpness:.6g}"), seed, options, hidden=(), steps=steps
        )
        for arm, c in PRODUCTS.items()
        for seed in options.range(3)
    ]


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether the loss falls below the bound, and grows above it as it should."""
    ratios = {
        arm: [
            r.curves["train/loss"][1:] / r.curves["train/loss"][:-1] for r in by_arm(results, arm)
        ]
        for arm in PRODUCTS
    }
    below, above = ratios.values()
    rises = max(float(np.max(ratio)) for ratio in below)
    factors = [float(ratio[-1]) for ratio in above]
    return judge(
        PREDICTION,
        rises <= 1 and all(abs(factor / 1.05**2 - 1) <= 0.01 for factor in factors),
        f"below, the loss is multiplied by at most {rises:.4f} in a step; above, at the end by "
        f"{np.mean(factors):.4f}, in theory 1.1025",
        options,
        short=True,
    )
