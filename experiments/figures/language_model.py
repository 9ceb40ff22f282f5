"""The figures of the study ``language_model``."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm, layers
from experiments.study import Figure
from experiments.trial import Array, Result

COLOURS = {
    "1 character": style.GREY,
    "8 characters": style.SKY,
    "32 characters": style.BLUE,
    "pre-norm": style.GREEN,
    "post-norm": style.RED,
}


def figures(
    start: Sequence[Result], final: Sequence[Result], contexts: Mapping[str, int]
) -> list[Figure]:
    """The figures, save the one of the agreement."""
    return [
        Figure(
            "context",
            "What a longer look back is worth",
            "Cross-entropy on the test part against the characters that a model looks back on. "
            "Counting models (line) and networks (points, one a seed) begin together; the counts "
            "need every context to have occurred before, the network does not, but it would have "
            "to be trained for longer to know as much by heart.",
            lambda: _context(final, contexts),
        ),
        Figure(
            "validation",
            "Training",
            "Cross-entropy on the validation part; line: mean over the seeds, band: lowest to "
            "highest. What one character tells is learnt soon, and that network stops; those that "
            "attend to more go on falling, and have not come to their end.",
            lambda: arms.curves(
                final,
                COLOURS,
                arms.by_curve("val/step", "val/loss"),
                xlabel="training step",
                ylabel="cross-entropy (nats a character)",
            ),
        ),
        Figure(
            "position",
            "Loss by the place in the window",
            "Cross-entropy on the validation part for each place in the window, so for as many "
            "characters to go by. At the first place all networks are bigram models; the next few "
            "characters bring almost all of the gain. Line: mean over the seeds, band: lowest to "
            "highest.",
            lambda: arms.curves(
                final,
                COLOURS,
                _position,
                xlabel="characters to go by",
                ylabel="cross-entropy (nats a character)",
            ),
        ),
        Figure(
            "depth",
            "The gradient near the output, before the first step",
            "Length of the gradient of the MLP's second matrix in the last block, against the "
            "number of blocks; line: geometric mean over the seeds, band: lowest to highest. "
            "Dotted: one over the root of the number of blocks, from pre-norm's first point. "
            "Pre-norm follows it, post-norm does not.",
            lambda: _depth(start),
        ),
        Figure(
            "blocks",
            "The gradient of each block, before the first step",
            "The same for each of sixteen blocks. Read it from right to left, as the gradient "
            "travels: pre-norm's rises on its way back, since what a block adds to the shortcut "
            "counts for less the more there is already; post-norm's does not.",
            lambda: arms.curves(
                [r for r in start if r.trial.labels["blocks"] == 16],
                COLOURS,
                arms.by_layer("length"),
                xlabel="block",
                ylabel="gradient, Euclidean length",
                yscale="log",
            ),
        ),
    ]


def _position(result: Result) -> tuple[Array, Array]:
    losses = result.curves["position/loss"]
    return np.arange(1, len(losses) + 1), losses


def _context(final: Sequence[Result], contexts: Mapping[str, int]) -> Canvas:
    figure, axes = style.panel("characters looked back on", "cross-entropy (nats a character)")
    counts = final[0].curves["ngrams/loss"]
    places = [*range(len(counts)), *(c for c in contexts.values() if c >= len(counts))]
    axes.plot(range(len(counts)), counts, "s-", color=style.ORANGE, markersize=4, label="counts")
    for arm, context in contexts.items():
        losses = [result.metrics["test/loss"] for result in by_arm(final, arm)]
        at = [places.index(context)] * len(losses)
        axes.plot(at, losses, "o", color=COLOURS[arm], markersize=5, label=f"network, {arm}")
    axes.set_xticks(range(len(places)), [str(place) for place in places])
    style.legend(axes, columns=2)
    return figure


def _depth(start: Sequence[Result]) -> Canvas:
    figure, axes = style.panel("blocks", "gradient, Euclidean length", xscale="log", yscale="log")
    depths = sorted({result.trial.labels["blocks"] for result in start})
    for arm in ("pre-norm", "post-norm"):
        last = np.array(
            [
                [
                    layers(r, "length")[-1]
                    for r in by_arm(start, arm)
                    if r.trial.labels["blocks"] == n
                ]
                for n in depths
            ]
        )
        middle = np.exp(np.log(last).mean(1))
        axes.plot(depths, middle, "o-", color=COLOURS[arm], markersize=4, label=arm)
        axes.fill_between(
            depths, last.min(1), last.max(1), color=COLOURS[arm], alpha=0.13, linewidth=0
        )
        if arm == "pre-norm":
            expected = middle[0] * np.sqrt(depths[0] / np.array(depths))
            axes.plot(depths, expected, ":", color=style.INK, linewidth=1)
    style.plain_ticks(axes.xaxis, depths)
    style.plain_ticks(axes.yaxis, (0.1, 0.2, 0.3, 0.5, 1))
    style.legend(axes)
    return figure
