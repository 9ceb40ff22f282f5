"""The noise of the gradient, in some of the trainings with batches of every size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import configs
from experiments.figures import batch_size as figures
from experiments.measures import by_arm
from experiments.statistics import plus_minus
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Result

SIZES = (1, 4, 16, 60, 240)
"""The batch sizes at which the noise is measured, whatever the network trains on."""

NOISY = ("8", "32")
"""The trainings whose gradient noise is measured; the short form has the first of them."""

FALLS = Prediction(
    claim="The noise of the gradient falls as 1/batch.",
    source="Bottou et al. 2018, section 3.2 (arXiv:1606.04838); McCandlish et al. 2018, section "
    "2.2 (arXiv:1812.06162)",
    refuted_if="over batches of 1 to 240 the slope of log |g - G|^2 against log B, corrected for "
    "drawing without replacement, is not -1.1 to -0.9, before the first step or at the end, under "
    "any seed",
)
GROWS = Prediction(
    claim="The batch that is worth its while grows while a network trains: the gradient shrinks "
    "faster than its noise.",
    source="McCandlish et al. 2018, sections 2.2 and 4 (arXiv:1812.06162)",
    refuted_if="the noise scale tr(S)/|G|^2 at the end is not above 1.5 times that before the "
    "first step, under any seed",
)


def callbacks(arm: str, options: Options) -> list[dict[str, Any]]:
    """What measures it in the training of an arm; nothing where it is not measured."""
    if arm not in NOISY:
        return []
    draws = 10 if options.fast else 50
    name = "experiments.training.gradient_noise.GradientNoise"
    return [configs.item(name, sizes=list(SIZES), draws=draws)]


def slopes(result: Result) -> list[float]:
    """The slope of the log of the noise against the log of the batch, at the start and the end."""
    sizes = np.array(SIZES, dtype=float)
    return [
        float(np.polyfit(np.log(sizes), np.log(figures.noise(result, SIZES, when) / sizes), 1)[0])
        for when in (0, -1)
    ]


def scales(result: Result) -> list[float]:
    """The simple noise scale tr(S) / |G|^2, in samples, at the start and the end."""
    return [
        float(np.mean(figures.noise(result, SIZES, when)))
        / float(result.curves["noise/gradient"][when])
        for when in (0, -1)
    ]


def verdicts(final: Sequence[Result], options: Options) -> list[Verdict]:
    """Whether the noise falls with the batch, and its scale grows with the training."""
    noisy = [r for r in final if r.trial.labels["arm"] in NOISY]
    slope = [value for r in noisy for value in slopes(r)]
    growth = [scales(r) for r in noisy]
    first, last = np.mean(growth, axis=0)
    return [
        judge(
            FALLS,
            all(-1.1 <= value <= -0.9 for value in slope),
            f"slopes {min(slope):.2f} to {max(slope):.2f}",
            options,
            short=True,
        ),
        judge(
            GROWS,
            all(end > 1.5 * start for start, end in growth),
            f"noise scale {first:.0f} samples before the first step, {last:.0f} at the end",
            options,
        ),
    ]


def table(final: Sequence[Result]) -> Table:
    """Scale and slope at the start and at the end."""
    return Table(
        "Gradient noise",
        ("batch in training", "noise scale, start", "end", "slope, start", "end"),
        [
            (
                arm,
                *(plus_minus([scales(r)[i] for r in own], ".1f") for i in (0, 1)),
                *(plus_minus([slopes(r)[i] for r in own], ".2f") for i in (0, 1)),
            )
            for arm in NOISY
            for own in [by_arm(final, arm)]
            if own
        ],
        note="Noise scale: the batch, in samples, at which noise and gradient are equally long. "
        "Slope: of the log of the noise against the log of the batch.",
    )
