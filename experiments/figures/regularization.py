"""The figures of the regularization study."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.study import Figure
from experiments.trial import Array, Result


def figures(
    tuning: Sequence[Result], final: Sequence[Result], colours: Mapping[str, str], every: int
) -> list[Figure]:
    """All of them.

    Args:
        tuning: The trials of several strengths.
        final: Those that are compared.
        colours: By arm.
        every: Training steps from one evaluation to the next.
    """

    def over_steps(read: Callable[[Result], Array], ylabel: str, yscale: str = "linear") -> Canvas:
        def points(result: Result) -> tuple[Array, Array]:
            values = read(result)
            return every * np.arange(1, len(values) + 1), values

        return arms.curves(
            final, colours, points, xlabel="training step", ylabel=ylabel, yscale=yscale, columns=2
        )

    def wide(result: Result) -> Array:
        return result.curves["unseen/loss"] - result.curves["seen/loss"]

    band = "Line: mean over the seeds, band: lowest to highest."
    return [
        Figure(
            "unseen",
            "Images that it has not seen",
            "Loss on the test images. With nothing against it, the network is at its best early "
            f"and then undoes it. {band} Early stopping's line ends where the first of its "
            "trainings does.",
            lambda: over_steps(lambda r: r.curves["unseen/loss"], "test loss (nats)"),
        ),
        Figure(
            "seen",
            "Images that it has seen",
            "Loss on the rightly labelled images that it trains on, without dropout, on a log "
            "axis. By this measure nothing is wrong with the network that overfits: it is the best "
            "of all.",
            lambda: over_steps(
                lambda r: r.curves["seen/loss"], "loss on seen images (nats)", "log"
            ),
        ),
        Figure(
            "gap",
            "The gap",
            "Loss on the test images less that on the rightly labelled training images: how much "
            f"worse a new image fares than one that was learned. {band}",
            lambda: over_steps(wide, "gap of the loss (nats)"),
        ),
        Figure(
            "memorised",
            "Mistakes learned by heart",
            "Share of the 40 wrong labels that the network reproduces. It learns the digits first, "
            "which contradict them; then, with nothing against it, every single mistake.",
            lambda: over_steps(lambda r: 100 * r.curves["memorised"], "wrong labels learned (%)"),
        ),
        Figure(
            "length",
            "How long the weights grow",
            "Euclidean length of all weights and biases. To fit what fits nothing else takes long "
            "weights; weight decay pulls them back at every step.",
            lambda: over_steps(lambda r: r.curves["length"], "length of the weights"),
        ),
        *(
            Figure(
                name.replace(" ", "-"),
                f"How much {name}",
                "Loss on the validation images over the training, for each strength that was "
                "tried, on one seed: too little lets the mistakes in, too much keeps the digits "
                "out.",
                partial(_strengths, tuning, name),
            )
            for name in dict.fromkeys(result.trial.labels["arm"] for result in tuning)
        ),
    ]


def _strengths(tuning: Sequence[Result], name: str) -> Canvas:
    figure, axes = style.panel("training step", "validation loss (nats)")
    own = [result for result in tuning if result.trial.labels["arm"] == name]
    colours = (style.RED, style.ORANGE, style.GREEN, style.BLUE)
    for result, colour in zip(own, colours, strict=False):
        axes.plot(
            result.curves["val/step"],
            result.curves["val/loss"],
            color=colour,
            label=f"{result.trial.labels['strength']:g}",
        )
    style.legend(axes)
    return figure
