"""The figures of the study ``batch_size``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm
from experiments.study import Figure
from experiments.trial import Array, Result

SAMPLES = 1200
"""Of the training part."""

COLOURS = {
    "1": style.PINK,
    "8": style.RED,
    "16": style.ORANGE,
    "32": style.GREEN,
    "128": style.SKY,
    "512": style.BLUE,
    "1200": style.GREY,
}
EQUAL = {"16": style.ORANGE, "128": style.SKY, "600": style.BLUE}


@dataclass(frozen=True)
class Parts:
    """The results of the study, part by part, and the tuned rate of each batch size."""

    tuning: Sequence[Result]
    best: Mapping[str, float]
    final: Sequence[Result]
    equal: Sequence[Result]
    parts: Sequence[Result]


def noise(result: Result, sizes: Sequence[int], when: int) -> Array:
    """tr(S), as the spread of the gradients of each batch size gives it, (len(sizes),).

    Args:
        result: Of a training whose noise was measured.
        sizes: The batch sizes.
        when: 0 for before the first step, -1 for the end.
    """
    found = np.array([result.curves[f"noise/{size}"][when] for size in sizes])
    drawn = np.array(sizes, dtype=float)
    return found * drawn * (SAMPLES - 1) / (SAMPLES - drawn)


def figures(parts: Parts) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "examples",
            "Against examples",
            "Validation loss on a log axis against the samples seen; 1200 are an epoch. Line: "
            "geometric mean over the seeds, band: lowest to highest. For the same samples a small "
            "batch takes more steps and is further down.",
            lambda: _losses(parts, _seen, "samples seen"),
        ),
        Figure(
            "steps",
            "Against steps",
            "The same against the steps, on two log axes. For the same steps the large batches are "
            "ahead, if not by much: the order is turned round.",
            lambda: _losses(parts, lambda r: r.curves["val/step"], "training steps", "log"),
        ),
        Figure(
            "time",
            "Against time",
            "The same against the seconds of training on one core, by one kind of gradients (the "
            "tuning runs, one seed). A step costs nearly the same for 8 samples as for 128, so "
            "neither end wins. Seconds depend on the machine and on what else it does.",
            lambda: _time(parts),
        ),
        Figure(
            "noise",
            "Noise of the gradient",
            "Mean squared distance of a mini-batch's gradient from the gradient of all samples, at "
            "fixed weights, against the batch size, on log axes; points: seeds. Dotted: 1/batch, "
            "corrected for drawing from 1200 samples without replacement, through the mean of the "
            "points. Horizontal: the squared length of the gradient of all samples.",
            lambda: _noise(parts.final),
        ),
        Figure(
            "sharpness",
            "Sharpness on the way",
            "Largest eigenvalue of the Hessian of the training loss, for 600 steps at rate 0.3; "
            "line: mean over the seeds, band: lowest to highest. Large batches end where the walls "
            "are steeper. Dotted: 2/rate, where descent without noise becomes unstable.",
            lambda: _sharpness(parts.equal),
        ),
        Figure(
            "rates",
            "The rate that suits a batch",
            "Tuned learning rate against the batch size, on log axes. Dotted: in proportion to the "
            "batch, as the linear scaling rule has it, through the first point.",
            lambda: _rates(parts.best),
        ),
    ]


def _seen(result: Result) -> Array:
    """The samples seen at each evaluation; the last batch of an epoch may be smaller."""
    steps = -(-SAMPLES // int(result.trial.labels["arm"]))
    return result.curves["val/step"] / steps * SAMPLES


def _losses(
    parts: Parts, x: Callable[[Result], Array], xlabel: str, xscale: str = "linear"
) -> Canvas:
    figure = arms.curves(
        parts.final,
        COLOURS,
        lambda r: (x(r), r.curves["val/loss"]),
        xlabel=xlabel,
        ylabel="validation loss (nats)",
        yscale="log",
        columns=4,
    )
    if xscale == "log":
        figure.axes[0].set_xscale("log")
    return figure


def _time(parts: Parts) -> Canvas:
    figure, axes = style.panel(
        "seconds of training", "validation loss (nats)", xscale="log", yscale="log"
    )
    for arm, colour in COLOURS.items():
        for result in by_arm(parts.tuning, arm):
            if result.trial.labels["rate"] == parts.best[arm]:
                curves = result.curves
                axes.plot(curves["clock/val"], curves["val/loss"], color=colour, label=arm)
    style.legend(axes)
    return figure


def _noise(results: Sequence[Result]) -> Canvas:
    figure, axes = style.panel(
        "batch size (samples)", "squared distance", xscale="log", yscale="log"
    )
    measured = [r for r in results if "noise/gradient" in r.curves]
    own = by_arm(measured, measured[0].trial.labels["arm"])
    names = (name.partition("/")[2] for name in own[0].curves if name.startswith("noise/"))
    sizes = [int(name) for name in names if name.isdigit()]
    drawn = np.geomspace(1, 900, 100)
    for when, label, colour in ((0, "before the first step", style.BLUE), (-1, "end", style.RED)):
        for i, result in enumerate(own):
            spread = [result.curves[f"noise/{size}"][when] for size in sizes]
            axes.plot(sizes, spread, "o", color=colour, markersize=4, label=None if i else label)
        trace = np.mean([noise(result, sizes, when) for result in own])
        law = trace / drawn * (SAMPLES - drawn) / (SAMPLES - 1)
        axes.plot(drawn, law, ":", color=colour, linewidth=1.2)
        length = np.mean([result.curves["noise/gradient"][when] for result in own])
        axes.axhline(length, color=colour, linewidth=0.8)
    style.legend(axes)
    return figure


def _sharpness(results: Sequence[Result]) -> Canvas:
    if not results:
        return style.panel("training step", "sharpness")[0]
    figure = arms.curves(
        results,
        EQUAL,
        arms.by_curve("sharpness/step", "sharpness/value"),
        xlabel="training step",
        ylabel="sharpness",
    )
    rate = results[0].trial.labels["rate"]
    figure.axes[0].axhline(2 / rate, color=style.INK, linestyle=":", linewidth=1)
    return figure


def _rates(best: Mapping[str, float]) -> Canvas:
    figure, axes = style.panel("batch size (samples)", "tuned rate", xscale="log", yscale="log")
    sizes = np.array([int(arm) for arm in best], dtype=float)
    rates = np.array(list(best.values()))
    axes.plot(sizes, rates, "o-", color=style.BLUE, label="tuned")
    axes.plot(
        sizes, rates[0] * sizes / sizes[0], ":", color=style.INK, linewidth=1, label="in proportion"
    )
    style.plain_ticks(axes.yaxis, (0.01, 0.03, 0.1, 0.3, 1, 3, 10))
    axes.set_ylim(rates.min() / 2, rates.max() * 3)
    style.legend(axes)
    return figure
