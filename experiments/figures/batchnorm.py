"""The figures of the study ``batchnorm``."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm, late_loss
from experiments.study import Figure
from experiments.trial import Result

DRIFTS = {
    "none": "Without normalization the three lines start as one, since the unit receives the same "
    "from every sample, and then travel far.",
    "BatchNorm": "With BatchNorm they keep their places; the jitter is that of batches of 60.",
    "BatchNorm, shifted": "With random shifts after BatchNorm they jump at every step.",
}


def all_of(
    final: Sequence[Result],
    tuning: Sequence[Result],
    colours: arms.Colours,
    *,
    every: int,
    trained: float,
) -> list[Figure]:
    """All figures.

    Args:
        final: The trainings at the best rates.
        tuning: Those at every rate.
        colours: By arm.
        every: Steps from one look at the units to the next.
        trained: The loss below which a network has learned.
    """
    limits = _limits(final)
    return [
        Figure(
            "accuracy",
            "Accuracy in the course of the training",
            "Validation accuracy, each arm at its own best learning rate; line: mean over the "
            "seeds, band: lowest to highest. Ioffe & Szegedy's Figure 1a: with BatchNorm the "
            "network has learned before the plain one has begun to.",
            lambda: arms.curves(
                final,
                colours,
                arms.by_curve("val/step", "val/accuracy", scale=100),
                xlabel="training step",
                ylabel="validation accuracy (%)",
                columns=2,
            ),
        ),
        Figure(
            "loss",
            "Training loss",
            "Averaged over an epoch (20 steps), on a log axis; line: geometric mean over the "
            "seeds, band: lowest to highest.",
            lambda: arms.curves(
                final,
                colours,
                arms.by_step("train/loss", 20),
                xlabel="training step",
                ylabel="training loss (nats)",
                yscale="log",
                columns=2,
            ),
        ),
        *(
            Figure(
                f"drift-{number}",
                f"What a unit receives: {arm}",
                "The 15th, 50th and 85th percentile over the batch of what a typical unit of the "
                "last hidden layer receives, under the first seed (Ioffe & Szegedy's Figure 1b and "
                f"c). {caption} A sigmoid tells values apart between about -4 and 4. All of these "
                "figures have the same vertical axis.",
                lambda arm=arm: _percentiles(  # type: ignore[misc]
                    by_arm(final, arm)[0], colours[arm], every, limits
                ),
            )
            for number, (arm, caption) in enumerate(DRIFTS.items(), start=1)
        ),
        Figure(
            "rates",
            "The learning rates that an arm stands",
            "Training loss over the last tenth of the training at each learning rate that was "
            f"tried, one seed; below the dashed line ({trained:g}) it has learned, at 2.3 it knows "
            "nothing. BatchNorm's trough is the widest.",
            lambda: _rates(tuning, colours, trained),
        ),
    ]


def _limits(final: Sequence[Result]) -> tuple[float, float]:
    """The range that shows the percentiles of every arm."""
    shown = [by_arm(final, arm)[0].curves for arm in DRIFTS]
    low = min(float(curves["quantile/15"].min()) for curves in shown)
    high = max(float(curves["quantile/85"].max()) for curves in shown)
    return low - 0.5, high + 0.5


def _percentiles(result: Result, colour: str, every: int, limits: tuple[float, float]) -> Canvas:
    figure, axes = style.panel("training step", "input of the sigmoid")
    lines = [result.curves[f"quantile/{percent}"] for percent in (15, 50, 85)]
    steps = np.arange(len(lines[0])) * every
    axes.fill_between(
        steps, lines[0], lines[2], color=colour, alpha=0.2, linewidth=0, label="15 to 85 %"
    )
    axes.plot(steps, lines[1], color=colour, linewidth=1.1, label="median")
    axes.set(ylim=limits, xlim=(0, steps[-1]))
    style.legend(axes)
    return figure


def _rates(tuning: Sequence[Result], colours: arms.Colours, trained: float) -> Canvas:
    figure, axes = style.panel("learning rate", "training loss (nats)", xscale="log", yscale="log")
    for arm, colour in colours.items():
        own = sorted(by_arm(tuning, arm), key=lambda result: result.trial.labels["rate"])
        if own:
            rates = [result.trial.labels["rate"] for result in own]
            ends = [late_loss(result) for result in own]
            axes.plot(rates, ends, color=colour, marker="o", markersize=4, label=arm)
    axes.axhline(trained, color=style.INK, linestyle="--", linewidth=1)
    style.plain_ticks(axes.xaxis, (0.1, 0.3, 1, 3, 10, 30, 100))
    style.legend(axes)
    return figure
