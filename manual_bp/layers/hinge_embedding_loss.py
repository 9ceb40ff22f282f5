r"""Hinge embedding: pulls what belongs together to distance 0, pushes the rest apart to a margin.

Indices: ``n`` element, ``t_n`` 1 for alike and -1 for different, ``m`` the margin. dL/dl_n is the
share of ``manual_bp/reduction.py``.

Forward and backward::

    l_n = x_n               where t_n = 1        dL/dx_n = dL/dl_n
    l_n = max(0, m - x_n)   where t_n = -1       dL/dx_n = -dL/dl_n  where x_n <= m,  else 0

With any other t torch adds the two. At the kink x = m it takes the slope -1.

Hadsell, Chopra & LeCun (2006), "Dimensionality Reduction by Learning an Invariant Mapping", with
squared distances, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.layers.soft_margin_loss import signs
from manual_bp.reduction import fitted, named, share
from manual_bp.spec import Draw, Sample, Spec, sample


class HingeEmbeddingLossFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, margin: float, reduction: str) -> Tensor:
        return torch.nn.functional.hinge_embedding_loss(x, target, margin, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.margin, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        (u,) = widened(x)
        g = share(grad_y, ctx.reduction, torch.broadcast_shapes(x.shape, target.shape).numel())
        nothing = g.new_zeros(())
        pulled = torch.where(target != -1, g, nothing)
        pushed = torch.where((target != 1) & (ctx.margin - u >= 0), g, nothing)
        return fitted(pulled - pushed, x), None, None, None


@under_autocast("float32")
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge of a distance, gradient by hand; as ``torch.nn.functional.hinge_embedding_loss``.

    Args:
        input: distances, any shape
        target: 1 for alike, -1 for different, a shape that broadcasts; gets no gradient
        margin: the distance from which on a different pair costs nothing
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
    """
    reduction = named(reduction, size_average, reduce)
    return HingeEmbeddingLossFunction.apply(input, target.detach(), margin, reduction)


class HingeEmbeddingLoss(torch.nn.HingeEmbeddingLoss):
    """``torch.nn.HingeEmbeddingLoss``, gradient :class:`HingeEmbeddingLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map distances and signs of one shape to the loss."""
        return hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), signs(draw, 4, 3))
    yield sample(draw(4, 3), signs(draw, 4, 3), 0.5, reduction="none", label="margin, none")
    yield sample(draw(4, 3), draw.integers(3, 3) - 1.0, reduction="sum", label="also 0, sum")
    kink = draw.values(1.0, 1.0, float("nan"), float("inf"), float("-inf"))
    truth = draw.values(-1.0, 1.0, -1.0, -1.0, -1.0).detach()
    yield sample(kink, truth, reduction="none", label="kink", smooth=False)
    yield sample(draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 2), label="shapes differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), signs(draw, 4, 3)), 0.7)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), signs(draw, 64, 512))
    yield sample(draw(1024, 2048), signs(draw, 1024, 2048))


SPEC = Spec(
    name="hinge_embedding_loss",
    formula="L = mean of x where t = 1, max(0, m - x) where t = -1",
    gradient="dx = dL / N where t = 1, -dL / N where t = -1 and x <= m, else 0",
    manual=hinge_embedding_loss,
    native=torch.nn.functional.hinge_embedding_loss,
    samples=_samples,
    refused=_refused,
    modules={HingeEmbeddingLoss: _modules},
    bench=_bench,
)
