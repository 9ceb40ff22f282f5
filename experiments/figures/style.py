"""How the figures look: one panel each, at home on a light and on a dark page.

Text, axes and grid are drawn in a placeholder colour that becomes ``currentColor`` in the SVG, so
they follow the page. Data is drawn in mid-tones that stand out on both, and that colour-blind
readers can tell apart (after Okabe & Ito 2008, without the yellow).
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.agreement import LIMIT
from experiments.trial import Array

INK = "#010203"
"""Stands for the page's text colour."""

BLUE, ORANGE, GREEN = "#2f7fc1", "#e08a00", "#0a9b74"
RED, PINK, SKY, GREY = "#d9541e", "#c86ba0", "#58b0e0", "#8a8a8a"

_RC: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.labelcolor": INK,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # the page's fonts would not fit the layout
    "svg.hashsalt": "manual_bp",  # the same figure gives the same file
}


def panel(
    xlabel: str,
    ylabel: str,
    *,
    size: tuple[float, float] = (4.7, 3.3),
    xscale: str = "linear",
    yscale: str = "linear",
) -> tuple[Figure, Axes]:
    """One pair of axes, small enough for a phone to show it at a readable size."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_visible(False)  # the page shines through
        axes = figure.add_subplot(facecolor="none")
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
        axes.tick_params(which="minor", width=0.4)
        axes.set_axisbelow(True)
    return figure, axes


def legend(axes: Axes, *, columns: int = 4, handles: Sequence[Artist] | None = None) -> None:
    """A legend above the axes, where it hides no data; of what is labelled, or of handles."""
    with matplotlib.rc_context(_RC):
        axes.legend(
            handles=handles or axes.get_legend_handles_labels()[0],
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            handlelength=1.4,
            columnspacing=1.2,
        )


def plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """On a log axis over a decade or two, ticks at these values, written as plain numbers."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def differences(axes: Axes, steps: Array, curves: Mapping[str, tuple[Array, str]]) -> None:
    """Relative differences on a log axis, with the limit and the last bit of float64.

    Args:
        axes: With a logarithmic y axis.
        steps: The training steps.
        curves: By label, the differences and their colour; a difference of zero leaves a gap.
    """
    # Trainings that amplify rounding leave the usual range; all of their way is shown.
    largest = max((v[np.isfinite(v)].max(initial=0) for v, _ in curves.values()), default=0.0)
    axes.set(xlim=(0, steps[-1]), ylim=(2e-17, max(1e-8, 3 * largest)))
    for label, (values, colour) in curves.items():
        shown = np.where(values > 0, values, np.nan)
        axes.plot(steps, shown, color=colour, label=label, linewidth=1.1)
    axes.axhline(LIMIT, color=INK, linestyle="--", linewidth=1)
    axes.axhline(2.0**-53, color=INK, linestyle=":", linewidth=1)
    if not any(values.any() for values, _ in curves.values()):
        axes.text(
            0.5, 0.5, "no difference in any bit", transform=axes.transAxes, ha="center", color=INK
        )
    legend(axes)


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an SVG element that takes its ink from the page.

    Args:
        figure: Drawn by way of :func:`panel`.
        name: A word that no other figure of the page has; it keeps their ids apart.
        description: What it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_RC):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    opening, rest = re.match(r".*?(<svg[^>]*>)(.*)", text, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    rest = re.sub(r'\bid="', f'id="{name}-', rest)
    rest = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", rest)
    rest = rest.replace(INK, "currentColor")
    box = re.search(r'viewBox="[^"]+"', opening)
    assert box is not None
    return (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(description)}" {box[0]}>{rest}'
    )


def smooth(values: Sequence[float], window: int) -> list[float]:
    """The mean over the last ``window`` values, fewer at the start."""
    total, result = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        result.append(total / min(i + 1, window))
    return result
