"""One weight takes one step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.views.numbers import number


def build() -> Setup:
    """A network of a single weight, 2.0, whose loss has the slope 0.5 there."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 2.0)
    x, t = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 1.75, dtype=torch.float64)
    return Setup(model, (x,), t, optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The update, and what other rates would have done."""
    update = step.update("weight")
    assert update.gradient is not None and update.after is not None
    w, g, after = (float(v) for v in (update.before, update.gradient, update.after))
    lr = update.numbers["lr"]
    x, t = (float(s.value) for s in (step.operations[0].inputs[0], step.operations[1].inputs[1]))
    yield (
        f"The weight becomes {number(after)}. The gradient is the slope of the loss: where the "
        f"weight grows by a little, the loss grows by {number(g)} times as much. So the weight "
        f"goes the other way, down, by rate times gradient: {number(w)} - {number(lr)} × "
        f"{number(g)} = {number(after)}."
    )
    before, best = float(step.loss), t / x
    rows = []
    for rate in (0.01, lr, 0.5, 1.0, 1.1):
        to = w - rate * g
        loss = (to * x - t) ** 2
        verdict = "lower" if loss < before else "the same" if loss == before else "higher"
        rows.append((number(rate), number(to), number(loss), verdict))
    yield Table(
        ("rate", "weight after the step", "loss after the step", "than before"),
        rows,
        f"The loss was {number(before)}; it is 0 at the weight {number(best)}.",
    )
    yield (
        "The gradient tells the way, not how far. A small rate creeps, one rate lands in the "
        "valley, a larger one lands on the other side, and one that is larger still climbs. How "
        "far is safe depends on how fast the slope itself changes."
    )


LESSON = Lesson(
    name="weight",
    title="One weight takes one step",
    question=(
        "A weight is 2.0. The gradient of the loss at this weight is 0.5, and the learning rate "
        "is 0.1. Does the weight go up or down, and where does it arrive?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
