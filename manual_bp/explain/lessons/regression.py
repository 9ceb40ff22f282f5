"""A first network of Keras tutorials: ten inputs, five hidden units, one output, Adam."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import three
from manual_bp.explain.views.numbers import share


def build() -> Setup:
    """As Keras makes it: Glorot's uniform weights, zero biases, mean squared error, Adam."""
    draw = torch.Generator().manual_seed(7)
    f64 = torch.float64
    model = nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(10, 5, dtype=f64),
            relu=nn.ReLU(),
            output=nn.Linear(5, 1, dtype=f64),
        )
    )
    for layer in ("hidden", "output"):
        weight = model.get_parameter(f"{layer}.weight")
        nn.init.xavier_uniform_(weight, generator=draw)
        nn.init.zeros_(model.get_parameter(f"{layer}.bias"))
    x = torch.randn(32, 10, generator=draw, dtype=f64)
    t = x[:, :3].sum(1, keepdim=True) + 0.1 * torch.randn(32, 1, generator=draw, dtype=f64)
    return Setup(model, (x,), t, optimizer=lambda w: torch.optim.Adam(w, lr=1e-3))


def tell(step: Explanation) -> Iterator[str | Table]:
    """How many numbers learn, how large their gradients are, and how far each goes."""
    rows, total, smallest, largest, moved = [], 0, float("inf"), 0.0, set()
    still = 0
    for update in step.updates:
        assert update.gradient is not None and update.change is not None
        sizes = update.gradient.abs()
        going = sizes > 0
        still += int((~going).sum())
        total += update.before.numel()
        smallest, largest = (
            min(smallest, float(sizes[going].min())),
            max(largest, float(sizes.max())),
        )
        steps = update.change[going].abs()
        moved |= {three(s) for s in steps}
        shape = " x ".join(map(str, update.before.shape))
        rows.append(
            (
                update.name,
                f"{shape}: {update.before.numel()}",
                " to ".join(dict.fromkeys(three(s) for s in (sizes[going].min(), sizes.max()))),
                " to ".join(dict.fromkeys(three(s) for s in (steps.min(), steps.max()))),
            )
        )
    yield (
        f"{total} numbers learn: 10 × 5 weights and 5 biases in the hidden layer, 5 weights and 1 "
        f"bias at the output. Their gradients differ by a factor of {three(largest / smallest)}"
        f". Their steps do not differ at all: each is {' or '.join(sorted(moved))}, the learning "
        "rate."
    )
    yield Table(("parameter", "numbers", "size of the gradients", "size of the steps"), rows)
    yield (
        "That is Adam. It divides its average of the gradient, m, by the root of its average of "
        "the gradient squared, v. After a single step both averages know one gradient only, and "
        "m / sqrt(v) is g / |g|: plus or minus 1. So the first step keeps the sign and forgets the "
        "size. SGD at the same rate would have moved the number with the smallest gradient by "
        f"{three(1e-3 * smallest)}."
    )
    relu = next(o for o in step.operations if o.name == "relu")
    assert relu.dead is not None
    yield (
        f"The ReLU lets through what is positive: {share(relu.dead)} of its "
        f"{relu.outputs[0].value.numel()} places are off, and no gradient passes there. Every unit "
        "is on for some of the 32 examples, so every weight gets its share."
        if not still
        else f"{still} numbers have a gradient of 0 and stay: their unit is off for every example."
    )


LESSON = Lesson(
    name="regression",
    title="Ten inputs, five hidden units, one output: the first step of Adam",
    question=(
        "A network 10-5-1 predicts a number; ReLU in the middle, mean squared error, Adam with its "
        "usual rate of 0.001. How many numbers learn in it? And in the first step, which of them "
        "moves farthest?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
