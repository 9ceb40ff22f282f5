"""The figures of the study ``clipping``, and its arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm, late_loss
from experiments.study import Figure
from experiments.trial import Array, Result


@dataclass(frozen=True)
class Arm:
    """A way to deal with gradients: no clipping, or by which rule at which threshold.

    Args:
        name: The arm's name.
        rule: "norm" or "value", as Lightning's ``gradient_clip_algorithm``; None for no clipping.
        threshold: Lightning's ``gradient_clip_val``.
        rate: A learning rate of its own.
    """

    name: str
    rule: str | None = None
    threshold: float | None = None
    rate: float | None = None


NONE, SLOW = Arm("none"), Arm("none, lr 0.01", rate=0.01)
BY_NORM = [Arm(f"norm {t:g}", "norm", t) for t in (0.01, 0.1, 1, 10, 100)]
BY_VALUE = [Arm(f"value {t:g}", "value", t) for t in (0.01, 0.1, 1)]
NORM, VALUE = BY_NORM[2], BY_VALUE[1]
ARMS = (NONE, SLOW, *BY_NORM, *BY_VALUE)
SHOWN = (NONE, SLOW, NORM, VALUE)
COLOURS = {
    NONE.name: style.RED,
    SLOW.name: style.ORANGE,
    NORM.name: style.BLUE,
    VALUE.name: style.GREEN,
}
CHANCE = 1 / 6


def figures(results: Sequence[Result]) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "loss",
            "To infinity, or down",
            "Training loss at every step on a log axis; line: geometric mean over the seeds, band: "
            "lowest to highest. The red line leaves the figure at 1e100 and goes on to infinity "
            "and NaN; the others stay at the bottom, where the next figure shows them.",
            lambda: arms.curves(
                results,
                COLOURS,
                _to_a_googol,
                xlabel="training step",
                ylabel="training loss (mean squared error)",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "learning",
            "What clipping saves",
            "The same without the red line, averaged over 20 steps. Dashed: 1/6, the error of one "
            "who knows nothing and always answers 1.",
            lambda: _learning(results),
        ),
        Figure(
            "norms",
            "Before and after clipping",
            "Length of the gradient at every step before clipping (thin) and after it (thick), of "
            "one seed, on a log axis. By norm the thick line is flat at the threshold, 1, wherever "
            "the thin one is above; by value it is bounded only by the threshold times the root of "
            "the number of weights.",
            lambda: _norms(results),
        ),
        Figure(
            "angle",
            "Turned by clipping",
            "Angle between the gradient and what clipping makes of it; line: mean over the seeds, "
            "band: lowest to highest, over 20 steps. By norm it is zero: a vector that is "
            "shortened points where it did.",
            lambda: arms.curves(
                [r for r in results if r.trial.labels["arm"] in (NORM.name, VALUE.name)],
                COLOURS,
                arms.by_step("clip/angle", 20),
                xlabel="training step",
                ylabel="angle (degrees)",
            ),
        ),
        Figure(
            "threshold",
            "Sensitivity to the threshold",
            "Loss over the last tenth of the training against the threshold, both axes log; dots "
            "are seeds, lines their medians. Dashed: chance. Too low a threshold and the steps are "
            "too short to arrive; too high a one and those that should be clipped are not.",
            lambda: _thresholds(results),
        ),
    ]


def _to_a_googol(result: Result) -> tuple[Array, Array]:
    """The losses as far as a log axis can be drawn; beyond 1e100 a gap."""
    losses = result.curves["train/loss"]
    return np.arange(1, len(losses) + 1), np.where(losses < 1e100, losses, np.nan)


def _learning(results: Sequence[Result]) -> Canvas:
    figure = arms.curves(
        [r for r in results if r.trial.labels["arm"] != NONE.name],
        COLOURS,
        arms.by_step("train/loss", 20),
        xlabel="training step",
        ylabel="training loss (mean squared error)",
        yscale="log",
        columns=3,
    )
    figure.axes[0].axhline(CHANCE, color=style.INK, linestyle="--", linewidth=1)
    return figure


def _norms(results: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("training step", "length of the gradient", yscale="log")
    for arm in (NORM, VALUE):
        curves = by_arm(results, arm.name)[0].curves
        steps, colour = np.arange(1, len(curves["clip/before"]) + 1), COLOURS[arm.name]
        axes.plot(steps, curves["clip/before"], color=colour, linewidth=0.6, alpha=0.7)
        axes.plot(steps, curves["clip/after"], color=colour, label=arm.name)
    style.legend(axes)
    return figure


def _thresholds(results: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("threshold", "training loss at the end", xscale="log", yscale="log")
    rules = (("by norm", BY_NORM, style.BLUE), ("by value", BY_VALUE, style.GREEN))
    for label, swept, colour in rules:
        found = [
            (arm.threshold, [late_loss(r) for r in by_arm(results, arm.name)])
            for arm in swept
            if arm.threshold is not None and by_arm(results, arm.name)
        ]
        thresholds = [threshold for threshold, _ in found]
        axes.plot(thresholds, [np.median(y) for _, y in found], color=colour, label=label)
        for threshold, losses in found:
            axes.plot([threshold] * len(losses), losses, "o", color=colour, markersize=4)
    axes.axhline(CHANCE, color=style.INK, linestyle="--", linewidth=1)
    style.legend(axes)
    return figure
