"""The figures of the study ``optimizers``."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm, costs
from experiments.study import Figure
from experiments.trial import Array, Result

COLOURS = {
    "SGD": style.GREY,
    "Momentum": style.BLUE,
    "Nesterov": style.SKY,
    "AdaGrad": style.RED,
    "RMSprop": style.PINK,
    "Adam": style.GREEN,
    "AdamW": style.ORANGE,
}

OTHERS = {"L-BFGS": "#7d62c4", "AMSGrad": "#8d6e3f"}
"""Of the parts beside the main comparison."""

EPOCH = 19
"""Steps of one epoch of digits, over which losses are averaged."""


def figures(
    tuning: Sequence[Result],
    final: Sequence[Result],
    best: Mapping[str, float],
) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "start",
            "Getting to 90 %",
            "Validation accuracy over the first 150 steps; line: mean over the seeds, band: from "
            "the lowest to the highest seed. Who crosses the dotted line first got there first.",
            lambda: _start(final),
        ),
        Figure(
            "loss",
            "The whole training",
            f"Training loss on a log axis, averaged over the last {EPOCH} steps (an epoch); line: "
            "geometric mean over the seeds, band: lowest to highest seed. AdaGrad is ahead of "
            "plain SGD at first; see which of the two is lower at the right edge.",
            lambda: _loss(final),
        ),
        Figure(
            "steps",
            "Size of the steps",
            "Length of the weights' step over the length of the gradient, relative to the first "
            "epoch, averaged over an epoch and the seeds. Plain SGD stays at 1; AdaGrad falls, "
            "because it never forgets a squared gradient; RMSprop and Adam, which do, may grow "
            "as the gradients get small.",
            lambda: _step_sizes(final),
        ),
        Figure(
            "rates",
            "Sensitivity to the learning rate",
            "Mean validation loss over the training against the learning rate, from the tuning "
            "runs; a point for each seed, the line through their means, a ring around the chosen "
            "rate. The ring should lie inside its curve, not at an end; the wider the valley "
            "around it, the less exactly the rate must be known (its width within 20 % is in a "
            "table). Values above 10 are drawn at 10: these trainings diverged.",
            lambda: _rates(tuning, best),
        ),
    ]


def mnist5k(final: Sequence[Result]) -> Figure:
    """Validation accuracy on MNIST-5k."""
    return Figure(
        "mnist5k",
        "The same on MNIST-5k",
        "Validation accuracy on 500 images of 28x28 pixels; line: mean over the seeds, band: "
        "lowest to highest. Dotted: the 90 % that count as having got there.",
        lambda: _mnist5k(final),
    )


def full_batch(final: Sequence[Result]) -> Figure:
    """Training loss against gradients."""
    colours = {"SGD": COLOURS["SGD"], "L-BFGS": OTHERS["L-BFGS"]}
    return Figure(
        "full-batch",
        "The whole training part in every step",
        "Training loss on a log axis against the gradients of the whole training part that were "
        "computed for it, several for a step of L-BFGS; line: geometric mean over the seeds, band: "
        "lowest to highest. SGD is plain gradient descent here, without noise.",
        lambda: arms.curves(
            final,
            colours,
            lambda result: (result.curves["evaluations"], result.curves["train/loss"]),
            xlabel="gradients of the whole training part",
            ylabel="training loss (nats)",
            yscale="log",
        ),
    )


def reddi(played: Sequence[Result], path: Callable[[Result], Array]) -> Figure:
    """The way of x on the convex problem."""
    colours = {"Adam": COLOURS["Adam"], "AMSGrad": OTHERS["AMSGrad"]}

    def way(result: Result) -> tuple[Array, Array]:
        x = path(result)
        return np.arange(len(x)), x

    return Figure(
        "reddi",
        "A convex problem on which Adam fails",
        "The number x at every step. The cost of three steps together is x, so the best place is "
        "-1. Adam has forgotten the one large gradient of the three when the two small ones come, "
        "and climbs to the worst place; AMSGrad remembers it, and goes down.",
        lambda: arms.curves(played, colours, way, xlabel="step", ylabel="x (cost of three steps)"),
    )


def _mnist5k(final: Sequence[Result]) -> Canvas:
    figure = arms.curves(
        final,
        COLOURS,
        lambda result: (result.curves["val/step"], result.curves["val/accuracy"]),
        xlabel="training step",
        ylabel="validation accuracy",
    )
    axes = figure.axes[0]
    axes.axhline(0.9, color=style.INK, linestyle=":", linewidth=1)
    axes.set_ylim(0.3, 1.0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _stacked(results: Sequence[Result], curve: str) -> Array:
    return np.stack([result.curves[curve] for result in results])


def _start(final: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("training step", "validation accuracy")
    for name, colour in COLOURS.items():
        results = by_arm(final, name)
        steps, accuracy = results[0].curves["val/step"], _stacked(results, "val/accuracy")
        axes.plot(steps, accuracy.mean(0), color=colour, label=name)
        axes.fill_between(
            steps, accuracy.min(0), accuracy.max(0), color=colour, alpha=0.13, linewidth=0
        )
    axes.axhline(0.9, color=style.INK, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 150), ylim=(0.3, 1.0))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    style.legend(axes)
    return figure


def _loss(final: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("training step", "training loss (nats)", yscale="log")
    for name, colour in COLOURS.items():
        losses = _epochs(_stacked(by_arm(final, name), "train/loss"))
        steps = np.arange(1, losses.shape[1] + 1)
        axes.plot(steps, np.exp(np.log(losses).mean(0)), color=colour, label=name)
        axes.fill_between(
            steps, losses.min(0), losses.max(0), color=colour, alpha=0.13, linewidth=0
        )
    axes.set_xlim(0, losses.shape[1])
    style.legend(axes)
    return figure


def _step_sizes(final: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("training step", "step size, relative to the start", yscale="log")
    for name, colour in COLOURS.items():
        ratios = _stacked(by_arm(final, name), "step/ratio")
        sizes = _epochs(ratios / np.median(ratios[:, :EPOCH], axis=1, keepdims=True)).mean(0)
        axes.plot(np.arange(1, len(sizes) + 1)[EPOCH:], sizes[EPOCH:], color=colour, label=name)
    axes.set_xlim(0, len(sizes))
    style.plain_ticks(axes.yaxis, (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10))
    style.legend(axes)
    return figure


def _rates(tuning: Sequence[Result], best: Mapping[str, float]) -> Canvas:
    figure, axes = style.panel(
        "learning rate", "mean validation loss (nats)", xscale="log", yscale="log"
    )
    for name, colour in COLOURS.items():
        found = {rate: np.minimum(cost, 10) for rate, cost in costs(by_arm(tuning, name)).items()}
        means = [float(np.mean(cost)) for cost in found.values()]
        axes.plot(list(found), means, color=colour, label=name)
        for rate, cost in found.items():
            axes.plot([rate] * len(cost), cost, ".", color=colour, markersize=4)
        axes.plot(
            best[name],
            np.mean(found[best[name]]),
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.6,
        )
    style.plain_ticks(axes.yaxis, (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10))
    style.legend(axes)
    return figure


def _epochs(curves: Array) -> Array:
    """Each curve averaged over the last epoch's steps."""
    return np.array([style.smooth(curve.tolist(), EPOCH) for curve in curves])
