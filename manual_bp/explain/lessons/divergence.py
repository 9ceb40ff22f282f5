"""A loss that goes 0.5, 1.2, 4.7, 23.1, NaN; and the same with its gradient clipped."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import three

START, RATE = (0.19773, 2.41784), 9.61046
"""The two weights and the learning rate, searched for: with them the losses are these."""
EXAMPLES, WRONG = 20, 1
"""Examples, all alike, and how many of them carry the wrong label."""
CLIP, SLOW = 0.05, 0.5
"""The largest norm of the gradient that clipping leaves; and a rate that needs no clipping."""
SHOWN = 8


class Product(nn.Module):
    """Two layers of one unit without biases: ``z = w2 w1 x``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        self.layer2 = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        for layer, value in zip((self.layer1, self.layer2), START, strict=True):
            nn.init.constant_(layer.weight, value)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1) to (N, 1)."""
        return self.layer2(self.layer1(x))


def naive_loss(z: Tensor, t: Tensor) -> Tensor:
    """Cross-entropy as its formula stands: exp first, then the logarithm."""
    e = torch.exp(z)
    return -(t * torch.log(e / (1 + e)) + (1 - t) * torch.log(1 / (1 + e))).mean()


def build() -> Setup:
    """The network, twenty examples x = 1, nineteen of class 1, and SGD at a rate near 10."""
    x = torch.ones(EXAMPLES, 1, dtype=torch.float64)
    t = (torch.arange(EXAMPLES) >= WRONG).double()[:, None]
    return Setup(Product(), (x,), t, naive_loss, lambda w: torch.optim.SGD(w, lr=RATE))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The first steps, plain, clipped, and at a lower rate."""
    plain, clipped, slow = _train(RATE, None), _train(RATE, CLIP), _train(SLOW, None)
    count = next(i for i, (loss, *_) in enumerate(plain) if math.isnan(loss))
    told = ", ".join(
        "NaN" if math.isnan(loss) else f"{loss:.1f}" for loss, *_ in plain[: count + 1]
    )
    yield (
        f"The loss goes {told}. Every step goes against the gradient, and every step makes it "
        f"worse, because it is too long. The valley is at z = {three(_best())}; the first step "
        f"jumps over it, from {three(plain[0][2])} to {three(plain[1][2])}. On the far side the "
        "weights are larger, and here the gradient of each weight is multiplied by the other one: "
        "from there on the gradient grows, and every step with it."
    )
    rows = []
    for i in range(SHOWN):
        cells = [f"{i}"]
        loss, norm, z = plain[i]
        cells += [_cell(loss, 1), _cell(norm, 1), three(z)]
        cells += [_cell(clipped[i][0], 2), _cell(slow[i][0], 2)]
        rows.append(tuple(cells))
    yield Table(
        ("step", "loss", "norm of the gradient", "z", f"clipped to {CLIP}", f"rate {SLOW}"),
        rows,
        "The last two columns are the loss of two other trainings from the same start.",
    )
    z = plain[count][2]
    yield (
        f"The NaN has a place of its own. At step {count} the network says z = {three(z)}. "
        f"e^z leaves the range of float64, which ends at z = {math.log(1.7976931348623157e308):.0f}"
        ": it is infinite, and infinite over infinite is no number. From there on every weight is "
        "NaN. A loss that takes logits would have stayed finite, and large."
    )
    norm = plain[count - 1][1]
    yield (
        f"Clipping leaves the direction of the gradient and shortens it to a norm of {CLIP}: at "
        f"step {count - 1} that is {three(norm / CLIP)} times shorter. No step is then "
        f"longer than {RATE:.2f} × {CLIP} = {RATE * CLIP:.2f}. After {SHOWN - 1} steps the loss is "
        f"{clipped[SHOWN - 1][0]:.2f}; with the lower rate it is {slow[SHOWN - 1][0]:.2f}. The "
        f"least that is possible with a wrong label among {EXAMPLES} is {_least():.2f}. Clipping "
        "is a seat belt: it saves the run from a single bad step. A rate that suits the slope is "
        "what drives."
    )


def _train(rate: float, clip: float | None) -> list[tuple[float, float, float]]:
    """Loss, norm of the gradient and z before each step."""
    setup = build()
    model, (x,), t = setup.model, setup.inputs, setup.target
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    found = []
    with torch.enable_grad():
        for _ in range(SHOWN):
            optimizer.zero_grad()
            z = model(x)
            loss = naive_loss(z, t)
            loss.backward()
            limit = math.inf if clip is None else clip
            norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
            found.append((loss.item(), norm.item(), z[0].item()))
    return found


def _best() -> float:
    """Where the loss is least: sigmoid(z) is the share of the right labels."""
    return math.log((EXAMPLES - WRONG) / WRONG)


def _least() -> float:
    q = WRONG / EXAMPLES
    return -q * math.log(q) - (1 - q) * math.log(1 - q)


def _cell(value: float, places: int) -> str:
    return "NaN" if math.isnan(value) else f"{value:.{places}f}"


LESSON = Lesson(
    name="divergence",
    title="0.5, 1.2, 4.7, 23.1, NaN",
    question=(
        "The loss of a training goes 0.5, 1.2, 4.7, 23.1. What will the next number be? What is "
        "going wrong, and what would you change?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
