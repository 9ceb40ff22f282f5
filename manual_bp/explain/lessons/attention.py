"""One head of attention: three tokens, and the blame that goes back to each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import bracketed, listed, three

TOKENS = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
TARGET = (0.0, 1.0)


class Head(nn.Module):
    """``softmax(Q K^T / sqrt(d)) V`` with a causal mask; the last token's output is returned."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (
            ("query", [[1.0, 0.5], [-0.5, 1.0]]),
            ("key", [[0.5, -1.0], [1.0, 0.5]]),
            ("value", [[1.0, -0.5], [0.5, 1.0]]),
        ):
            layer = nn.Linear(2, 2, bias=False, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(values, dtype=torch.float64))
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, 2) to (2,)."""
        q, k, v = (layer(x) for layer in self.children())
        scores = q @ k.T / x.shape[1] ** 0.5
        mask = torch.ones_like(scores, dtype=torch.bool).triu(1)
        p = torch.softmax(scores.masked_fill(mask, float("-inf")), dim=1)
        return (p @ v)[-1]


def build() -> Setup:
    """Three tokens of two numbers; the last one's output is to be (0, 1)."""
    x = torch.tensor(TOKENS, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(TARGET, dtype=torch.float64)
    return Setup(Head(), (x,), t, optimizer=lambda w: torch.optim.SGD(w, lr=0.1))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The last row of the attention, its gradient, and where the blame goes."""
    softmax = next(o for o in step if o.name == "softmax")
    (value,) = step.at("value")
    p, dp = softmax.outputs[0].value[-1], softmax.outputs[0].gradient
    ds, dv = softmax.inputs[0].gradient, value.outputs[0].gradient
    assert dp is not None and ds is not None and dv is not None
    output = next(o for o in step if o.module == "loss").inputs[0]
    assert output.gradient is not None
    blame, v = output.gradient, value.outputs[0].value
    weighted = float((p * dp[-1]).sum())
    rows = []
    for j in range(len(TOKENS)):
        rows.append(
            (
                str(j + 1),
                listed(v[j]),
                three(p[j]),
                three(dp[-1, j]),
                three(ds[-1, j]),
                listed(dv[j]),
            )
        )
    yield (
        "In two ways. What a token says, its value, is blamed in proportion to how much it was "
        "listened to. And how much it was listened to is blamed by whether listening to it more "
        "would have helped."
    )
    yield Table(
        ("token", "value v", "attention p", "dL/dp", "dL/dscore", "dL/dv"),
        rows,
        f"At the last token's output stands dL/dy = {listed(blame)}.",
    )
    yield (
        f"The value: dL/dv = p × dL/dy. Token 1 was given {three(p[0])} of the "
        f"attention, so it gets {three(p[0])} of the blame: {three(p[0])} × "
        f"{listed(blame)} = {listed(dv[0])}."
    )
    most = int(ds[-1].abs().argmax())
    yield (
        "The attention: dL/dp is the product of the token's value with dL/dy, numbers of the same "
        f"two places multiplied and summed. For token {most + 1}: "
        f"{_product(v[most], blame)} = {three(dp[-1, most])}. The softmax then "
        f"compares with the average, weighted by p: {three(weighted)}. So dL/dscore = "
        f"{three(p[most])} × ({three(dp[-1, most])} - "
        f"{bracketed(weighted)}) = {three(ds[-1, most])}. Where it is positive, the "
        "step makes the score lower."
    )
    yield (
        f"The gradients of the scores add up to {three(ds[-1].sum())}: attention is shared out, "
        "and what one token gains the others lose. The mask is why tokens 1 and 2, as "
        "listeners, get none: only the last output is asked for, and nobody listens to the future."
    )


def _product(a: Tensor, b: Tensor) -> str:
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return " + ".join(f"{bracketed(x)} × {bracketed(y)}" for x, y in pairs)


LESSON = Lesson(
    name="attention",
    title="One head of attention",
    question=(
        "Three tokens; the last one looks at all three, and mixes what they say. The mixture is "
        "wrong. In which ways can a token that was looked at be to blame for it?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
