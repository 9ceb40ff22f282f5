"""The figures of the study ``residual``."""

from collections.abc import Sequence

import numpy as np

from experiments.figures import arms
from experiments.measures import layers
from experiments.study import Figure
from experiments.trial import Array, Result


def balance(result: Result) -> Array:
    """The gradient at the first hidden layer over that at the last, at every look."""
    looks = range(len(result.curves["gradient/activation1"]))
    gradients = [layers(result, "gradient", look) for look in looks]
    return np.array([found[0] / found[-1] for found in gradients])


def all_of(final: Sequence[Result], colours: arms.Colours, every: int) -> list[Figure]:
    """All figures.

    Args:
        final: The trainings that are compared.
        colours: By arm.
        every: Steps from one look at the gradients to the next.
    """

    def balanced(result: Result) -> tuple[Array, Array]:
        y = balance(result)
        return every * np.arange(len(y)), y

    def by_depth(quantity: str, look: int = 0) -> arms.Reader:
        def read(result: Result) -> tuple[Array, Array]:
            y = layers(result, quantity, look)[::2]  # inside a block: the branch alone, a zigzag
            return 1 + 2 * np.arange(len(y)), y

        return read

    def error(result: Result) -> tuple[Array, Array]:
        step, errors = arms.by_step("train/error", 10)(result)
        return step, 100 * errors

    return [
        Figure(
            "error",
            "Training error",
            "Share of the training samples that are misjudged, averaged over an epoch (10 steps), "
            "each network at its own best learning rate; line: mean over the seeds, band: lowest "
            "to highest. He et al.'s Figure 6: of the plain networks the deeper one is the worse "
            "one, of the residual ones it is not.",
            lambda: arms.curves(
                final,
                colours,
                error,
                xlabel="training step",
                ylabel="training error (%)",
                columns=2,
            ),
        ),
        Figure(
            "gradient",
            "The gradient on its way back",
            "Standard deviation of dL/dy where the blocks meet (every second layer), before the "
            "first step, on a log axis. Read it from right to left, as the gradient travels: "
            "through plain layers it grows by the same factor at each, a straight line; with "
            "shortcuts the line bends.",
            lambda: arms.curves(
                final,
                colours,
                by_depth("gradient"),
                xlabel="layer",
                ylabel="gradient, standard deviation",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "signal",
            "The signal on its way up",
            "Standard deviation of the outputs where the blocks meet, before the first step. "
            "BatchNorm holds it in a plain network; along the shortcuts the branches add up, so "
            "that the variance grows by equal steps.",
            lambda: arms.curves(
                final,
                colours,
                by_depth("output"),
                xlabel="layer",
                ylabel="output, standard deviation",
                columns=2,
            ),
        ),
        Figure(
            "balance",
            "The gradient in the course of the training",
            "The gradient at layer 1 over that at the last hidden layer, on a log axis; line: "
            "geometric mean over the seeds, band: lowest to highest. What is far too large at "
            "first is mended within some tens of steps, without helping the 56 plain layers.",
            lambda: arms.curves(
                final,
                colours,
                balanced,
                xlabel="training step",
                ylabel="gradient, layer 1 over last",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "late",
            "The gradient late in the training",
            "As in the second figure, at the last step that was looked at. The first layers of the "
            "56 plain ones receive no more than the last; those in the middle do.",
            lambda: arms.curves(
                final,
                colours,
                by_depth("gradient", -1),
                xlabel="layer",
                ylabel="gradient, standard deviation",
                yscale="log",
                columns=2,
            ),
        ),
        Figure(
            "accuracy",
            "Validation accuracy",
            "Of the same trainings; what cannot be trained does not generalize either.",
            lambda: arms.curves(
                final,
                colours,
                arms.by_curve("val/step", "val/accuracy", scale=100),
                xlabel="training step",
                ylabel="validation accuracy (%)",
                columns=2,
            ),
        ),
    ]
