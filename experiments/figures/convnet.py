"""The figures of the convolutional study: curves of its arms, and small pictures of one image."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.figures import arms, style
from experiments.measures import by_arm
from experiments.study import Figure
from experiments.trial import Array, Result

FILTER = 5


def figures(final: Sequence[Result], colours: Mapping[str, str]) -> list[Figure]:
    """All of them; the pictures show the first seed's convolution before its first step."""
    first = by_arm(final, "convolution")[0].curves
    maps = {
        "image, 28x28": picture(first["image"]),
        "error, layer 2": picture(first["error/conv2"]),
        "error, layer 1": picture(first["error/conv1"]),
    }
    back = {
        "layer 2": _alone(len(first["error/conv2"])),
        "layer 1": picture(first["spread/conv1"]),
        "image": picture(first["spread/image"]),
    }
    kernels = first["filters/conv1"].reshape(-1, FILTER, FILTER)
    return [
        Figure(
            "error",
            "One image's error on its way back",
            "Size of dL/dy at each position of the two layers' outputs, over the channels, for one "
            "image: dark is large. The dense read-out hands every position of layer 2 some of the "
            "error; from there it goes back along the filters.",
            lambda: _pictures(maps),
        ),
        Figure(
            "spread",
            "The error of one number",
            "Size of the gradient that one number in the middle of layer 2 sends back: dark is "
            "large. It comes from 5x5 positions of layer 1 and from 13x13 pixels; the middle, seen "
            "along most ways, gets most of it; pixels seen only by units that are off get none.",
            lambda: _pictures(back),
        ),
        Figure(
            "filters",
            "What the eight filters of layer 1 hear of it",
            "The gradient of each 5x5 filter for the same image: blue below zero, red above. A "
            "filter that is off at every position of this image stays white.",
            lambda: _kernels(kernels),
        ),
        Figure(
            "shares",
            "A filter's gradient, place by place",
            "How long the gradient is that each of the 14x14 positions adds to that of one filter "
            "of layer 1, beside the image: dark is long. The filter's own gradient is the sum of "
            "all of them. Where nothing is drawn only its bias learns.",
            lambda: _pictures({"image": maps["image, 28x28"], "shares": picture(first["shares"])}),
        ),
        Figure(
            "loss",
            "Training",
            "Loss on the validation images; line: mean over the seeds, band: lowest to highest.",
            lambda: arms.curves(
                final,
                colours,
                arms.by_curve("val/step", "val/loss"),
                xlabel="training step",
                ylabel="validation loss (nats)",
                columns=2,
            ),
        ),
        Figure(
            "moved",
            "Test images that were moved",
            "Test accuracy by how far the images were moved, a mean of up, down, left and right. "
            "All were trained on digits in the middle. The convolution loses less, but not little: "
            "its read-out knows where things were.",
            lambda: arms.curves(
                final,
                colours,
                lambda r: (
                    np.arange(len(r.curves["shifted/accuracy"])),
                    100 * r.curves["shifted/accuracy"],
                ),
                xlabel="moved by (pixels)",
                ylabel="test accuracy (%)",
                columns=2,
            ),
        ),
    ]


def picture(values: Array) -> Array:
    """A square map from its rows."""
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def _alone(positions: int) -> Array:
    """The gradient of one number at itself: 1 in the middle."""
    found = np.zeros(positions)
    side = round(positions**0.5)
    found[side // 2 * (side + 1)] = 1
    return picture(found)


def _pictures(maps: Mapping[str, Array]) -> Canvas:
    """Maps of different sizes side by side, each from 0 (the page) to its largest value (dark)."""
    figure, axes = style.panel("", "", size=(4.7, 4.7 / len(maps) + 0.3))
    for i, (title, values) in enumerate(maps.items()):
        # Each fills a square of side 1; imshow's rows run down.
        axes.imshow(
            values / values.max(),
            cmap="Purples",
            vmin=0,
            vmax=1,
            extent=(1.1 * i, 1.1 * i + 1, 0, 1),
            interpolation="nearest",
        )
        axes.text(1.1 * i + 0.5, 1.03, title, ha="center", va="bottom", color=style.INK)
    axes.set(xlim=(0, 1.1 * len(maps) - 0.1), ylim=(0, 1.15), aspect="equal")
    axes.set_axis_off()
    return figure


def _kernels(kernels: Array) -> Canvas:
    """Filters side by side in rows of four, on one scale around zero."""
    figure, axes = style.panel("", "", size=(4.7, 2.7))
    largest = np.abs(kernels).max()
    for i, kernel in enumerate(kernels):
        left, low = 1.1 * (i % 4), -1.1 * (i // 4)
        axes.imshow(
            kernel,
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            extent=(left, left + 1, low, low + 1),
            interpolation="nearest",
        )
    bottom = -1.1 * (len(kernels) // 4 - 1)
    scale = f"dL/dw: white 0, full blue {-largest:.2g}, full red {largest:.2g}"
    axes.text(2.15, bottom - 0.1, scale, ha="center", va="top", color=style.INK)
    axes.set(xlim=(0, 4.3), ylim=(bottom - 0.3, 1), aspect="equal")
    axes.set_axis_off()
    return figure
