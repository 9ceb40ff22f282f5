"""A convolution: three weights that every place shares."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import bracketed, three

SIGNAL = (0.0, 1.0, 3.0, 2.0, 1.0)
KERNEL = (0.5, -1.0, 0.5)
TARGET = (1.0, -1.0, 0.0)


def build() -> Setup:
    """A kernel of three weights that slides over five numbers: three outputs."""
    model = nn.Conv1d(1, 1, len(KERNEL), bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[KERNEL]], dtype=torch.float64))
    x = torch.tensor([[SIGNAL]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([[TARGET]], dtype=torch.float64)
    return Setup(model, (x,), t, optimizer=lambda w: torch.optim.SGD(w, lr=0.1))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The share of each place in the gradient of each weight, and the way back to the input."""
    (conv, _) = step.operations
    y, dy = conv.outputs[0].value.flatten(), conv.outputs[0].gradient
    dw, dx = step.update("weight").gradient, conv.inputs[0].gradient
    assert dy is not None and dw is not None and dx is not None
    x, g, weights = torch.tensor(SIGNAL), dy.flatten(), dw.flatten()
    rows = []
    for p, blame in enumerate(g.tolist()):
        window = x[p : p + len(KERNEL)].tolist()
        rows.append(
            (
                f"{p + 1}",
                ", ".join(three(v) for v in window),
                three(y[p]),
                three(blame),
                *(three(blame * v) for v in window),
            )
        )
    rows.append(("sum", "", "", "", *(three(v) for v in weights.tolist())))
    yield (
        f"{len(g)} times: at every place of the output. A weight that is used at {len(g)} places "
        f"is blamed at {len(g)} places, and its gradient is the sum. At each place the share is "
        "the blame of the output, dy, times the input that stood under the weight there:"
    )
    yield Table(
        ("place", "inputs under the kernel", "y", "dy", "share of w1", "of w2", "of w3"), rows
    )
    yield (
        "Read down a column: the inputs under w1 are the signal, those under w2 the signal moved "
        "on by one. So the gradient of the kernel is a convolution itself, of the input with dy."
    )
    middle = len(SIGNAL) // 2
    terms = [
        (KERNEL[k], float(g[middle - k])) for k in range(len(KERNEL)) if 0 <= middle - k < len(g)
    ]
    products = " + ".join(f"{three(a)} × {bracketed(b)}" for a, b in terms).replace("+ -", "- ")
    yield (
        f"The way back to the input is the mirror image. The number in the middle, "
        f"{three(SIGNAL[middle])}, was met by w3, w2 and w1, one after the other, and takes its "
        f"blame back through each: {products} = {three(dx.flatten()[middle])}. That is "
        "why people say: backward, a convolution runs with its kernel flipped."
    )
    yield (
        f"A Linear layer from {len(SIGNAL)} to {len(g)} numbers would have "
        f"{len(SIGNAL) * len(g)} weights, each blamed once an example. Here are {len(KERNEL)}, and "
        "each learns from every place: a pattern that is learned here is known there."
    )


LESSON = Lesson(
    name="convolution",
    title="A convolution, and the weights that every place shares",
    question=(
        "A kernel of three weights slides over five numbers and makes three. Then the gradient "
        "comes back. How many times is the first of the three weights blamed, and what becomes of "
        "the several blames?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
