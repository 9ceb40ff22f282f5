"""Figures that many studies share: a curve for each arm, by step or by layer."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from experiments.agreement import LIMIT, Pair
from experiments.figures import style
from experiments.measures import by_arm, layers
from experiments.study import Figure
from experiments.trial import Array, Result

Colours = Mapping[str, str]
Reader = Callable[[Result], tuple[Array, Array]]
"""Gives what is drawn of a result: x and y of one length."""


def curves(
    results: Sequence[Result],
    colours: Colours,
    read: Reader,
    *,
    xlabel: str,
    ylabel: str,
    yscale: str = "linear",
    columns: int = 3,
) -> Canvas:
    """A line for each arm, the mean over its seeds, in a band from the lowest to the highest.

    Args:
        results: Those that are drawn; arms without any are left out.
        colours: By arm, in the order of the legend.
        read: What is drawn of a result. On a log axis the mean is the geometric one, and values
            that are not positive and finite leave a gap.
        xlabel: With the unit.
        ylabel: With the unit.
        yscale: "linear" or "log".
        columns: Of the legend.
    """
    figure, axes = style.panel(xlabel, ylabel, yscale=yscale)
    for arm, colour in colours.items():
        own = [read(result) for result in by_arm(results, arm)]
        if not own:
            continue
        length = min(len(x) for x, _ in own)
        x, y = own[0][0][:length], np.stack([y[:length] for _, y in own])
        if yscale == "log":
            y = np.where((y > 0) & np.isfinite(y), y, np.nan)
            middle = np.exp(np.log(y).mean(0))
        else:
            middle = y.mean(0)
        axes.plot(x, middle, color=colour, label=arm)
        axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.13, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(axes, columns=columns)
    return figure


def by_step(curve: str, window: int = 1) -> Reader:
    """A curve with one number a step, averaged over the last ``window`` steps."""

    def read(result: Result) -> tuple[Array, Array]:
        y = np.array(style.smooth(result.curves[curve].tolist(), window))
        return np.arange(1, len(y) + 1), y

    return read


def by_curve(x: str, y: str, scale: float = 1.0) -> Reader:
    """One curve, times ``scale``, over another that says where its numbers belong."""

    def read(result: Result) -> tuple[Array, Array]:
        return result.curves[x], scale * result.curves[y]

    return read


def by_layer(quantity: str, step: int = 0) -> Reader:
    """What :class:`~experiments.training.by_layer.ByLayer` kept of one step, over the layers."""

    def read(result: Result) -> tuple[Array, Array]:
        y = layers(result, quantity, step)
        return np.arange(1, len(y) + 1), y

    return read


def agreement(matched: Sequence[Pair], colours: Colours) -> Figure:
    """The relative difference between the two trainings of each pair, at every step."""

    def draw() -> Canvas:
        figure, axes = style.panel("training step", "relative difference of the loss", yscale="log")
        worst, longest = {}, max(len(pair.steps) for pair in matched)
        for arm, colour in colours.items():
            own = [p.steps for p in matched if p.result.trial.labels["arm"] == arm]
            if own:
                padded = np.zeros((len(own), longest))  # a difference of zero is not drawn
                for row, steps in zip(padded, own, strict=True):
                    row[: len(steps)] = steps
                worst[arm] = padded.max(axis=0), colour
        style.differences(axes, np.arange(1, longest + 1), worst)
        return figure

    return Figure(
        "agreement",
        "By hand against autograd",
        "Relative difference of the training loss between the two trainings of each pair, at every "
        "step; line: the largest over the seeds. Differences start at the last bit of float64 "
        f"(dotted, 1.1e-16). A line past the limit, {LIMIT:.0e} (dashed), is of a training that "
        "amplifies rounding, or has a wrong gradient: the sentence above says which. Steps without "
        "any difference leave a gap.",
        draw,
    )
