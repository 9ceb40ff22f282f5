"""A recurrent network unrolled in time: one weight, used at every step, blamed at every step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import three

INPUTS = (1.0, 0.0, 0.0, 0.0)
TARGET = 0.5


class Unrolled(nn.Module):
    """``h_t = tanh(w h_(t-1) + u x_t)``, with h_0 = 0; the last h is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        self.input = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(self.state.weight, 0.9)
        nn.init.constant_(self.input.weight, 0.8)

    def forward(self, *x: Tensor) -> Tensor:
        """Map a sequence of (1, 1), one for each step, to (1, 1)."""
        h = torch.zeros(1, 1, dtype=torch.float64)
        for x_t in x:
            h = torch.tanh(self.state(h) + self.input(x_t))
        return h


def build() -> Setup:
    """Four steps; what matters comes in the first, and is asked for after the last."""
    x = tuple(torch.full((1, 1), value, dtype=torch.float64) for value in INPUTS)
    t = torch.full((1, 1), TARGET, dtype=torch.float64)
    return Setup(Unrolled(), x, t, optimizer=lambda w: torch.optim.SGD(w, lr=0.5))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The share of each step in the gradient of the one weight."""
    uses = step.at("state")
    squashed = [o for o in step if o.name == "tanh"]
    w = step.update("state.weight")
    assert w.gradient is not None
    rows, shares, deltas, slopes = [], [], [], []
    for at, (use, tanh) in enumerate(zip(uses, squashed, strict=True), 1):
        before = float(use.inputs[0].value)
        after = float(tanh.outputs[0].value)
        arrived = use.outputs[0].gradient
        assert arrived is not None
        delta = float(arrived)
        deltas.append(delta)
        slopes.append(1 - after**2)
        shares.append(delta * before)
        rows.append(
            (
                str(at),
                three(before),
                three(after),
                three(slopes[-1]),
                three(delta),
                three(shares[-1]),
            )
        )
    total = " + ".join(three(s) for s in shares).replace("+ -", "- ")
    yield (
        f"At every step. The network is one cell, copied {len(rows)} times, and all copies hold "
        "the same weight. Each copy gets a gradient as if the weight were its own. The gradient of "
        f"the weight is the sum: {total} = {three(w.gradient)}. Sharing needs no other rule."
    )
    yield Table(
        ("step t", "h before", "h after", "slope", "delta_t", "delta_t × h before"),
        rows,
        "delta_t is dL/dz at step t, where h = tanh(z); slope is 1 - h^2.",
    )
    factors = [deltas[i] / deltas[i + 1] for i in range(len(deltas) - 1)]
    yield (
        f"From right to left: delta_{len(rows)} = {three(deltas[-1])} is the error times the "
        "slope of the last step. To go one step back, multiply by the weight and by the slope of "
        f"the step before: {_factors(float(w.before), slopes)}. So delta_1 = "
        f"{three(deltas[0])}, {three(deltas[0] / deltas[-1])} of delta_{len(rows)}."
    )
    rate = (factors[0] * factors[1] * factors[2]) ** (1 / 3)
    yield (
        f"That is {three(rate)} a step. Over 50 steps it would be {three(rate**50)}: what "
        "happened 50 steps ago could not be learned. With a weight well above 1 and slopes near 1 "
        "the same product explodes. An LSTM hands its state on by adding to it, and its forget "
        "gate can keep the factor near 1."
    )


def _factors(weight: float, slopes: list[float]) -> str:
    steps = range(len(slopes) - 1, 0, -1)
    return ", ".join(
        f"{three(weight)} × {three(slopes[t - 1])} = {three(weight * slopes[t - 1])}" for t in steps
    )


LESSON = Lesson(
    name="rnn",
    title="A recurrent network, unrolled in time",
    question=(
        "A recurrent network reads four numbers, one after the other, with one and the same "
        "weight. Its answer after the fourth is wrong. At which of the four steps is the weight to "
        "blame?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
