"""The figures of the study ``learning_rate``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm, late_loss
from experiments.study import Figure
from experiments.trial import Array, Result

QUADRATIC = {"1.95/sharpness": style.BLUE, "2.05/sharpness": style.RED}
EDGE = {
    "rate 0.1": style.GREY,
    "rate 0.5": style.ORANGE,
    "rate 0.7": style.PINK,
}
RATES = {"rate 0.01": style.GREY, "rate 1": style.BLUE, "rate 4": style.RED}
SCHEDULES = {
    "constant": style.RED,
    "1/sqrt": style.ORANGE,
    "step": style.SKY,
    "cosine": style.BLUE,
}
WARMUP = {"no warm-up": style.RED, "warm-up": style.GREEN}
COLOURS = {**QUADRATIC, **EDGE, **RATES, **SCHEDULES, **WARMUP}

SHARPNESS = arms.by_curve("sharpness/step", "sharpness/value")


@dataclass(frozen=True)
class Parts:
    """The results of the study, part by part."""

    quadratic: Sequence[Result]
    edge: Sequence[Result]
    rates: Sequence[Result]
    schedules: Sequence[Result]
    warmup: Sequence[Result]


def figures(parts: Parts) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "quadratic",
            "Below and above 2/sharpness",
            "Loss of a linear model under gradient descent, relative to its first value, on a log "
            "axis; the two rates lie 5 % apart, on either side of 2/sharpness. Dotted: growth by "
            "(1 - 2.05)^2 a step, as theory has it; the red line ends up parallel to it.",
            lambda: _quadratic(parts),
        ),
        Figure(
            "edge",
            "The edge of stability",
            "Sharpness of a network of two tanh layers under gradient descent without noise; line: "
            "mean over the seeds, band: lowest to highest. Dotted: 2/rate, in the colour of the "
            "rate. Each line climbs to its own dotted line and stays there; at rate 0.1 that "
            "would be 20, which is still far.",
            lambda: _edge(parts.edge),
        ),
        Figure(
            "descent",
            "Descent at the edge",
            "Training loss of the same networks, first seed, every step, on a log axis. Once a "
            "line has come to the edge it goes up and down, and yet down in the long run.",
            lambda: _descent(parts.edge),
        ),
        Figure(
            "rates",
            "Too low, right, too high",
            "Training loss over the last tenth of ten epochs against the rate; a point for each "
            "seed, the line through their means. Dotted: a classifier that knows nothing. See how "
            "near to the best rate the cliff is.",
            lambda: _rates(parts.rates),
        ),
        Figure(
            "three",
            "Three of these rates",
            "Training loss, averaged over an epoch (19 steps), on a log axis; line: geometric mean "
            "over the seeds, band: lowest to highest.",
            lambda: arms.curves(
                parts.rates,
                RATES,
                arms.by_step("train/loss", 19),
                xlabel="training step",
                ylabel="training loss (nats)",
                yscale="log",
            ),
        ),
        Figure(
            "schedules",
            "Schedules",
            "Training loss of a linear model on the squared error, in batches of 8, averaged over "
            "an epoch (150 steps), after the first two epochs; line: mean over the seeds, band: "
            "lowest to highest. The constant rate stays where its noise keeps it; the others go "
            "on as their rates fall.",
            lambda: arms.curves(
                parts.schedules,
                SCHEDULES,
                _after_two_epochs,
                xlabel="training step",
                ylabel="training loss",
                columns=4,
            ),
        ),
        Figure(
            "sharpness",
            "What warm-up does",
            "Sharpness of six ReLU layers from large weights, at rate 0.1, on a log axis; line: "
            "geometric mean over the seeds, band: lowest to highest. Dotted: 2/rate. At the start "
            "it is far above that; with a rate that grows from 0 it has time to fall.",
            lambda: _warmup(parts.warmup),
        ),
        Figure(
            "warmup",
            "With and without warm-up",
            "Training loss of the same networks, averaged over 10 steps, on a log axis. A line "
            "that breaks off has left the range of numbers.",
            lambda: arms.curves(
                parts.warmup,
                WARMUP,
                arms.by_step("train/loss", 10),
                xlabel="training step",
                ylabel="training loss (nats)",
                yscale="log",
            ),
        ),
    ]


def _quadratic(parts: Parts) -> Canvas:
    figure, axes = style.panel("training step", "loss, relative to the first", yscale="log")
    longest = 0
    for arm, colour in QUADRATIC.items():
        for i, result in enumerate(by_arm(parts.quadratic, arm)):
            losses = result.curves["train/loss"]
            longest = len(losses)
            axes.plot(losses / losses[0], color=colour, label=None if i else arm)
    steps = np.arange(longest)
    axes.plot(steps, 1e-2 * 1.05 ** (2.0 * steps), color=style.INK, linestyle=":", linewidth=1)
    style.legend(axes)
    return figure


def _edge(results: Sequence[Result]) -> Canvas:
    figure = arms.curves(
        results, EDGE, SHARPNESS, xlabel="training step", ylabel="sharpness", columns=4
    )
    axes = figure.axes[0]
    rates = {result.trial.labels["arm"]: result.trial.labels["rate"] for result in results}
    for arm, rate in rates.items():
        if 2 / rate < 10:
            axes.axhline(2 / rate, color=EDGE[arm], linestyle=":", linewidth=1.2)
    return figure


def _descent(results: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("training step", "training loss", yscale="log")
    for arm, colour in EDGE.items():
        for result in by_arm(results, arm)[:1]:
            axes.plot(result.curves["train/loss"], color=colour, label=arm, linewidth=0.8)
    style.legend(axes)
    return figure


def _rates(results: Sequence[Result]) -> Canvas:
    figure, axes = style.panel(
        "learning rate", "training loss at the end (nats)", xscale="log", yscale="log"
    )
    found: dict[float, list[float]] = {}
    for result in results:
        found.setdefault(result.trial.labels["rate"], []).append(late_loss(result))
    axes.plot(list(found), [np.mean(losses) for losses in found.values()], color=style.BLUE)
    for rate, losses in found.items():
        axes.plot([rate] * len(losses), losses, ".", color=style.BLUE)
    axes.axhline(np.log(10), color=style.INK, linestyle=":", linewidth=1)
    style.plain_ticks(axes.yaxis, (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20))
    return figure


def _after_two_epochs(result: Result) -> tuple[Array, Array]:
    step, loss = arms.by_step("train/loss", 150)(result)
    return step[300:], loss[300:]


def _warmup(results: Sequence[Result]) -> Canvas:
    figure = arms.curves(
        results, WARMUP, SHARPNESS, xlabel="training step", ylabel="sharpness", yscale="log"
    )
    rate = results[0].trial.labels["rate"]
    figure.axes[0].axhline(2 / rate, color=style.INK, linestyle=":", linewidth=1)
    return figure
