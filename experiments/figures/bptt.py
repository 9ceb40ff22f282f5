"""The figures of the study ``bptt``, and its arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm
from experiments.study import Figure
from experiments.trial import Array, Result

KINDS = ("RNN", "GRU", "LSTM")
STEPS = 20
"""Of the adding problem that is learned."""
RADII = (0.5, 0.9, 1.0, 1.5)
TRUNCATED = {"GRU, k = 10": 10, "GRU, k = 15": 15}
LENGTHS = (1, 2, 5, 10, 15, 20, 30, 40, 50)
"""The k of the truncated gradients that are compared with the full one."""
COLOURS = {
    "RNN": style.RED,
    "GRU": style.BLUE,
    "LSTM": style.GREEN,
    "GRU, k = 10": style.PINK,
    "GRU, k = 15": style.SKY,
}
CHANCE = 1 / 6


@dataclass(frozen=True)
class Parts:
    """The results of the study, part by part, and the network chosen for the sunspots."""

    radius: Sequence[Result]
    adding: Sequence[Result]
    sunspots: Sequence[Result]
    chosen: str


def radius_arm(radius: float) -> str:
    """The name of the arm with that spectral radius."""
    return f"radius {radius:g}"


RADIUS_COLOURS = {
    radius_arm(radius): colour
    for radius, colour in zip(RADII, (style.SKY, style.BLUE, style.GREEN, style.RED), strict=True)
}


def errors(result: Result) -> tuple[float, float, float]:
    """The mean squared test errors of a network, of persistence and of the autoregression."""
    truth = result.curves["forecast/truth"]
    network, persistence, linear = (
        float(np.mean((result.curves[f"forecast/{name}"] - truth) ** 2))
        for name in ("network", "persistence", "autoregression")
    )
    return network, persistence, linear


def figures(parts: Parts) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "radius",
            "Back through fifty steps",
            "Length of dL/dh at each state over that at the last one, before the first step, on a "
            "log axis. Read it from right to left, as the gradient travels: a straight line is the "
            "same factor at every step. Line: geometric mean over the seeds, band: lowest to "
            "highest.",
            lambda: arms.curves(
                parts.radius,
                RADIUS_COLOURS,
                _states("start"),
                xlabel="time step of the state",
                ylabel="gradient, relative to the last state",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "truncation",
            "What truncation loses",
            "Length of the difference between the gradient of all weights truncated to k steps and "
            "the full one, over that of the full one, before the first step. It falls as the "
            "gradient itself does: to truncate is harmless where nothing arrives anyway.",
            lambda: arms.curves(
                parts.radius,
                RADIUS_COLOURS,
                _truncated("error", "start"),
                xlabel="steps kept, k",
                ylabel="relative error",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "adding",
            "The adding problem",
            "Validation error on a log axis; line: geometric mean over the seeds, band: lowest to "
            "highest. Dashed: 1/6, the error of one who knows nothing. The RNN stays there; the "
            "others leave it all at once, when they have found out what a mark means.",
            lambda: _learning(parts, KINDS),
        ),
        Figure(
            "truncated",
            "The same GRU, and shorter gradients",
            "Validation error of the GRU trained on the full gradient over 20 steps, and truncated "
            "to the last 15 and 10. Both marks lie in the first ten steps: at k = 10 no gradient "
            "ever reaches one.",
            lambda: _learning(parts, ("GRU", *TRUNCATED)),
        ),
        Figure(
            "trained",
            "Through time after training",
            "As the first figure, for the networks that learned the adding problem, at the end of "
            "the training. What remembers keeps its gradient; the RNN's is lost on the way.",
            lambda: arms.curves(
                [r for r in parts.adding if r.trial.labels["arm"] in KINDS],
                COLOURS,
                _states("end"),
                xlabel="time step of the state",
                ylabel="gradient, relative to the last state",
                yscale="log",
            ),
        ),
        Figure(
            "cosine",
            "Where a truncated gradient points",
            "Cosine of the angle between the gradient truncated to k steps and the full one, at "
            "the end of the training; 1 is the same direction, 0 a right angle. Line: mean over "
            "the seeds, band: lowest to highest.",
            lambda: arms.curves(
                [r for r in parts.adding if r.trial.labels["arm"] in KINDS],
                COLOURS,
                _truncated("cosine", "end"),
                xlabel="steps kept, k",
                ylabel="cosine",
            ),
        ),
        Figure(
            "sunspots",
            "Forecasts of the sunspots",
            "The yearly number of sunspots (grey) and what was forecast a year ahead: by the "
            "network with the least error on the validation part, first seed, and by the linear "
            "autoregression. The test part is all that is shown.",
            lambda: _sunspots(parts),
        ),
    ]


def _states(when: str) -> arms.Reader:
    def read(result: Result) -> tuple[Array, Array]:
        lengths = result.curves[f"state/{when}"]
        return np.arange(len(lengths)), lengths

    return read


def _truncated(what: str, when: str) -> arms.Reader:
    def read(result: Result) -> tuple[Array, Array]:
        found = result.curves[f"truncated/{what}/{when}"]
        return np.array(LENGTHS[: len(found)]), found

    return read


def _learning(parts: Parts, shown: Sequence[str]) -> Canvas:
    figure = arms.curves(
        [r for r in parts.adding if r.trial.labels["arm"] in shown],
        COLOURS,
        arms.by_curve("val/step", "val/loss"),
        xlabel="training step",
        ylabel="validation error (mean squared)",
        yscale="log",
    )
    figure.axes[0].axhline(CHANCE, color=style.INK, linestyle="--", linewidth=1)
    return figure


def _sunspots(parts: Parts) -> Canvas:
    figure, axes = style.panel("year", "sunspots (standard deviations from the mean)")
    curves = by_arm(parts.sunspots, parts.chosen)[0].curves
    truth = curves["forecast/truth"]
    years = np.arange(2009 - len(truth), 2009)
    axes.plot(years, truth, color=style.GREY, linewidth=2.6, label="observed")
    axes.plot(years, curves["forecast/network"], color=COLOURS[parts.chosen], label=parts.chosen)
    axes.plot(years, curves["forecast/autoregression"], color=style.ORANGE, label="autoregression")
    style.legend(axes, columns=3)
    return figure
