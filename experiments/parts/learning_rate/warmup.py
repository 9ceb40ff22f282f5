"""A schedule that begins low, on a network whose first weights are too large for the rate."""

from collections.abc import Sequence

from experiments.measures import by_arm, late_loss
from experiments.parts.learning_rate import CHANCE, loss_text, with_noise
from experiments.study import Options, Prediction, Verdict, judge
from experiments.trial import Result, Trial

STEPS = {"no warm-up": 0, "warm-up": 95}
"""Over which the rate grows from 0, by arm."""

LOOK = 10
"""Steps from one measurement of the sharpness to the next."""

PREDICTION = Prediction(
    claim="Warm-up trains at a rate that fails without it: the sharpness of the first weights is "
    "too large for the rate, and falls while the rate is small.",
    source="Goyal et al. 2017, section 2.2 (arXiv:1706.02677); Gilmer et al. 2021 "
    "(arXiv:2110.04369)",
    refuted_if="the training loss over the last tenth is below 1.15 without warm-up or above 0.5 "
    "with it, or 2/rate is not below the sharpness at the start, under any seed",
)


def trials(options: Options) -> list[Trial]:
    """Without it and with it; the short form leaves the first out."""
    return [
        with_noise(
            "warm-up",
            arm,
            0.1,
            seed,
            options,
            warmup=STEPS[arm],
            look=LOOK,
            hidden=[64] * 6,
            initialization=0.3,
        )
        for arm in (("warm-up",) if options.fast else STEPS)
        for seed in options.range(3)
    ]


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether it trains with warm-up alone, and begins beyond 2/rate."""
    without, with_ = ([late_loss(r) for r in by_arm(results, arm)] for arm in STEPS)
    starts = [float(r.curves["sharpness/value"][0]) for r in results]
    rate = results[0].trial.labels["rate"]
    return judge(
        PREDICTION,
        not any(loss < CHANCE / 2 for loss in without)
        and all(loss <= 0.5 for loss in with_)
        and min(starts) > 2 / rate,
        f"training loss at the end: without {loss_text(without)}, with {loss_text(with_)}; "
        f"sharpness at the start at least {min(starts):.0f}, 2/rate {2 / rate:.0f}",
        options,
    )
