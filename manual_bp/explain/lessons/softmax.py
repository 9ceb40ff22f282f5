"""Softmax and cross-entropy: two awkward derivatives whose product is p - y."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import bracketed, listed, three
from manual_bp.explain.step import explain

LOGITS = (2.0, 1.0, -1.0)
TRUE = 1
"""The right class, counted from 0."""


class Logits(nn.Module):
    """Three scores that are learned as they are, one for each class; softmax of them."""

    def __init__(self, softmax: bool = True) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.tensor([LOGITS], dtype=torch.float64))
        self.softmax = softmax

    def forward(self) -> Tensor:
        """Return (1, 3)."""
        return torch.softmax(self.z, dim=1) if self.softmax else self.z * 1.0


def _negative_log(p: Tensor, target: Tensor) -> Tensor:
    return -torch.log(p[0, int(target)])


def build() -> Setup:
    """The three operations one by one: softmax, pick the right class, -log."""
    target = torch.tensor([TRUE])
    return Setup(Logits(), (), target, _negative_log, lambda w: torch.optim.SGD(w, lr=1.0))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The two derivatives, their product, and the same by the fused loss."""
    softmax = next(o for o in step if o.name == "softmax")
    p, dp = softmax.outputs[0].value[0], softmax.outputs[0].gradient
    dz = step.update("z").gradient
    assert dp is not None and dz is not None
    right = float(p[TRUE])
    y = [int(c == TRUE) for c in range(len(LOGITS))]
    rows = []
    for c in range(len(LOGITS)):
        slope = right * ((1 if c == TRUE else 0) - float(p[c]))
        rows.append(
            (
                f"{c + 1}" + (" (right)" if c == TRUE else ""),
                three(LOGITS[c]),
                three(p[c]),
                str(y[c]),
                three(slope),
                three(dz[0, c]),
                three(float(p[c]) - y[c]),
            )
        )
    yield (
        "Take p, what the network believes, and subtract y, the truth: that is all. "
        f"Class {TRUE + 1} is right and was given only {three(right)}, so its score is pushed "
        f"up by {three(1 - right)}; the others are pushed down by exactly what they were given."
    )
    yield Table(
        ("class", "score z", "p", "y", "dp_right/dz", "dL/dz, recorded", "p - y"),
        rows,
        f"L = -log p_right = -log {three(right)} = {three(step.loss)}",
    )
    other = 0
    yield (
        f"Where does it come from? The logarithm hands back -1 / p_right = {three(dp[0, TRUE])}: "
        "huge when the network is very wrong. The softmax hands back dp_right/dz: tiny when the "
        "network is very wrong. It is p_right (1 - p_right) for the right class, and -p_right p "
        f"for another. In the product p_right cancels. For class {other + 1}: "
        f"{three(dp[0, TRUE])} × {bracketed(-right * float(p[other]))} = {three(dz[0, other])}."
    )
    fused = explain(Logits(softmax=False), target=torch.tensor([TRUE]))
    same = fused.update("z").gradient
    assert same is not None
    apart = float((same - dz).abs().max())
    yield (
        "So a library does both in one: `cross_entropy` takes the scores, and never divides by p. "
        f"Its gradient here is {listed(same[0])}, and the largest difference from the one above is "
        f"{three(apart)}. The three add up to {three(dz.sum())}: what one class gains the others "
        "lose. Adding the same number to all scores changes nothing."
    )


LESSON = Lesson(
    name="softmax",
    title="Softmax and cross-entropy collapse to p - y",
    question=(
        "A network gives three classes the scores 2, 1 and -1, and the second is right. Softmax "
        "makes probabilities of the scores, the loss is minus the logarithm of the right one. Both "
        "have awkward derivatives. What is the gradient of each score?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
