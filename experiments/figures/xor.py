"""The figures of the study ``xor``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from experiments import published
from experiments.agreement import LIMIT, Pair
from experiments.endings import PLATEAUS, Ending, forward
from experiments.figures import style
from experiments.study import Figure
from experiments.trial import Array, Result

Weights = dict[str, Array]

GROUPS = {
    0: ("solved", style.GREEN),
    2: ("2 inputs share an output", style.ORANGE),
    3: ("3 share", style.RED),
    4: ("all 4 share", style.PINK),
}


def figures(
    shown: Sequence[Result],
    endings: Sequence[Ending],
    weights: Mapping[int, Weights],
    matched: Sequence[Pair],
) -> list[Figure]:
    """All figures.

    Args:
        shown: The plain trainings, one a seed.
        endings: Where each of them ended.
        weights: The trained networks whose decision surface is drawn, by seed; the first is the
            tutorial's.
        matched: The pairs of trainings by hand and by autograd.
    """
    tutorial, contrast = weights
    made = [
        Figure(
            "loss",
            "Solved, or on a plateau",
            f"Loss of each seed at each step, coloured by how it ends; seed {tutorial} is the "
            "thick line. Dotted: ln 2 = 0.693, 0.477 and 0.347, the least loss when four, three or "
            "two inputs share one output. Each unsolved seed comes to rest on one of them.",
            lambda: _losses(shown, endings, tutorial),
        ),
        Figure(
            "gradient",
            "A small gradient is not success",
            "Length of the whole gradient, as the running median over 51 steps, for the same seeds "
            "and colours. It fades for those that solve XOR and for those that are stuck alike; "
            "only the loss tells them apart. Where every unit dies early it is next to nothing "
            "within a hundred steps.",
            lambda: _gradients(shown, endings),
        ),
        Figure(
            "surface-tutorial",
            f"Seed {tutorial}: what it learned",
            "The trained network's output over the plane, and the four inputs with their labels. "
            "Lines: where a hidden unit turns on (solid for a live unit, dashed for a dead one "
            "that is on only away from the four inputs). Three inputs lie on the flat part, where "
            "no unit is on and one answer has to do for 0, 1 and 1.",
            lambda: _surface(weights[tutorial]),
        ),
        Figure(
            "surface-contrast",
            f"Seed {contrast}: XOR",
            "The same for a seed that solves it: units turn on along different edges of the band "
            "between (0,1) and (1,0), and the output falls off on both sides.",
            lambda: _surface(weights[contrast]),
        ),
        Figure(
            "units",
            f"Seed {tutorial}: units going dark",
            "For how many of the four inputs each hidden unit is on, averaged over 25 steps. Unit "
            "2 is dead from the start. The others let go of (1,0) and (0,1), the inputs they would "
            "be needed for, and stay on for (1,1) alone. The ripples are the edge of a unit that "
            "touches one of the two and is pushed off again.",
            lambda: _units(shown, tutorial),
        ),
    ]
    if matched:
        made.append(
            Figure(
                "agreement",
                "By hand against autograd",
                "Relative difference of the loss between training by hand and by autograd: largest "
                f"and median over {len(matched)} pairs, at each step. Differences start at the "
                f"last bit of float64 (dotted, 1.1e-16) and must stay below the limit {LIMIT:.0e} "
                "(dashed); a step without any difference leaves a gap.",
                lambda: _agreement(matched),
            )
        )
    return made


def _losses(shown: Sequence[Result], endings: Sequence[Ending], tutorial: int) -> Canvas:
    figure, axes = style.panel("training step", "loss (nats)")
    for result, end in zip(shown, endings, strict=True):
        mine = result.trial.labels["seed"] == tutorial
        axes.plot(
            result.curves["train/loss"],
            color=GROUPS[end.shared][1],
            linewidth=2.6 if mine else 0.9,
            alpha=1 if mine else 0.6,
            zorder=3 if mine else 2,
        )
    for plateau in PLATEAUS.values():
        axes.axhline(plateau, color=style.INK, linestyle=":", linewidth=0.9, zorder=4)
    axes.set(xlim=(0, published.STEPS), ylim=(0, 0.75))
    _groups(axes, endings)
    return figure


def _gradients(shown: Sequence[Result], endings: Sequence[Ending]) -> Canvas:
    figure, axes = style.panel("training step", "length of the gradient", yscale="log")
    for shared, (_, colour) in GROUPS.items():
        group = [
            _running_median(result.curves["gradient"])
            for result, end in zip(shown, endings, strict=True)
            if end.shared == shared
        ]
        for curve in group:
            axes.plot(curve, color=colour, linewidth=0.9, alpha=0.7)
    axes.set(xlim=(0, published.STEPS), ylim=(1e-7, 2))
    _groups(axes, endings)
    return figure


def _running_median(curve: Array, window: int = 51) -> Array:
    padded = np.pad(curve, window // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def _groups(axes: style.Axes, endings: Sequence[Ending]) -> None:
    counts = {shared: sum(end.shared == shared for end in endings) for shared in GROUPS}
    style.legend(
        axes,
        columns=2,
        handles=[
            Line2D([], [], color=colour, label=f"{name} ({counts[shared]} seeds)")
            for shared, (name, colour) in GROUPS.items()
            if counts[shared]
        ],
    )


def _surface(weights: Weights) -> Canvas:
    figure, axes = style.panel("first input", "second input", size=(4.7, 3.9))
    span = np.linspace(-0.5, 1.5, 201)
    plane = np.stack(np.meshgrid(span, span), axis=-1).reshape(-1, 2)
    hidden, output = forward(weights, plane)
    colours = LinearSegmentedColormap.from_list("", [style.BLUE, "#d9dde0", style.ORANGE])
    image = axes.imshow(
        output.reshape(201, 201),
        origin="lower",
        extent=(-0.5, 1.5, -0.5, 1.5),
        cmap=colours,
        vmin=0,
        vmax=1,
        interpolation="bilinear",
    )
    on = (forward(weights, published.X)[0] > 0).any(axis=0)
    for unit, live in zip(hidden.T, np.atleast_1d(on), strict=True):
        edge = unit.reshape(201, 201)
        if edge.min() < 0 < edge.max():
            axes.contour(
                span,
                span,
                edge,
                levels=[0],
                colors="#111111",
                linestyles="-" if live else "--",
                linewidths=1.1,
            )
    for (x, y), label in zip(published.X, published.Y[:, 0], strict=True):
        axes.plot(x, y, "o", color="#111111", markersize=17)
        axes.text(x, y, f"{label:.0f}", color="white", ha="center", va="center_baseline")
    axes.grid(False)
    axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("output", color=style.INK)
    bar.ax.tick_params(color=style.INK, labelcolor=style.INK, labelsize=9)
    bar.outline.set_visible(False)
    return figure


def _units(shown: Sequence[Result], tutorial: int) -> Canvas:
    figure, axes = style.panel("training step", "inputs that turn the unit on")
    curves = next(r for r in shown if r.trial.labels["seed"] == tutorial).curves
    colours = (style.BLUE, style.RED, style.GREEN, style.ORANGE)
    for i, colour in enumerate(colours):
        axes.plot(
            style.smooth(curves[f"unit{i + 1}"].tolist(), 25), color=colour, label=f"unit {i + 1}"
        )
    axes.set(xlim=(0, published.STEPS), ylim=(-0.1, 4), yticks=range(5))
    style.legend(axes)
    return figure


def _agreement(matched: Sequence[Pair]) -> Canvas:
    figure, axes = style.panel("training step", "relative difference of the loss", yscale="log")
    apart = np.stack([pair.steps for pair in matched])
    style.differences(
        axes,
        np.arange(1, apart.shape[1] + 1),
        {
            "largest": (apart.max(axis=0), style.RED),
            "median": (np.median(apart, axis=0), style.BLUE),
        },
    )
    return figure
