"""BatchNorm's gradient has three terms: one's own blame, and two that all examples share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.lessons.numerals import bracketed, three

VALUES = (1.0, 2.0, 3.0, 6.0)
TARGET = (0.0, 0.0, 0.0, 3.0)
EPS = 1e-5


def build() -> Setup:
    """One channel, four examples."""
    model = nn.BatchNorm1d(1, eps=EPS, dtype=torch.float64)
    x = torch.tensor(VALUES, dtype=torch.float64)[:, None].requires_grad_()
    t = torch.tensor(TARGET, dtype=torch.float64)[:, None]
    return Setup(model, (x,), t, optimizer=lambda w: torch.optim.SGD(w, lr=0.1))


def tell(step: Explanation) -> Iterator[str | Table]:
    """The three terms for each example, what they add up to, and what they cannot do."""
    norm = step.operations[0]
    x, dx = norm.inputs[0].value[:, 0], norm.inputs[0].gradient
    dy = norm.outputs[0].gradient
    assert dx is not None and dy is not None
    found, g = dx[:, 0], dy[:, 0]
    mean = x.mean()
    rstd = (x.var(correction=0) + EPS).rsqrt()
    hat = (x - mean) * rstd
    own, shift, scale = rstd * g, -rstd * g.mean(), -rstd * hat * (g * hat).mean()
    columns = (x, hat, g, own, shift.expand(len(x)), scale, found)
    rows = [tuple(three(column[n]) for column in columns) for n in range(len(x))]
    yield (
        "Yes: the third example has the blame 0, and the gradient "
        f"{three(found[2])}. BatchNorm subtracts the mean of the batch and divides by its spread, "
        "and every example has a part in both. So each is blamed in three ways, and the gradient "
        "is the sum."
    )
    yield Table(
        ("x", "x^", "dy", "its own", "by the mean", "by the spread", "dx, recorded"),
        rows,
        f"Mean {three(mean)}, 1 / spread {three(rstd)}; x^ = (x - mean) / spread.",
    )
    yield (
        f"Its own: dy times {three(rstd)}, as if mean and spread were fixed. By the mean: every "
        "output was moved by the mean, so every example takes the same share of the average blame, "
        f"-{three(rstd)} × {bracketed(g.mean())} = {three(shift)}. By the spread: an example far "
        "from the mean made the spread large, and so all outputs small. It takes a share in "
        "proportion to its x^."
    )
    yield (
        f"Add up the last column: {three(found.sum())}. BatchNorm cannot see a shift of the whole "
        "batch, so no gradient asks for one; that is why a bias before a BatchNorm learns nothing. "
        "Multiply each number by its x^ and add up: "
        f"{three((found * hat).sum())}, which is 0 but for the eps of {EPS:g} under the root. It "
        "cannot see a stretch either."
    )
    yield (
        "And that is why a batch of equal examples is trouble: their spread is 0, and 1 / spread "
        f"becomes 1 / sqrt(eps) = {three(EPS**-0.5)}."
    )


LESSON = Lesson(
    name="batch-norm",
    title="The three terms of BatchNorm",
    question=(
        "Four examples go through a BatchNorm: 1, 2, 3 and 6. One comes out exactly as it should, "
        "so its own error is 0. Does its input get a gradient all the same?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
