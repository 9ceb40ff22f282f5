r"""Margin ranking: of two scores the right one should be higher, by a margin.

Indices: ``n`` element, ``t_n`` 1 where the first score should be higher and -1 where the second,
``m`` the margin. All broadcast to a common shape. dL/dl_n is the share of
``manual_bp/reduction.py``.

Forward and backward::

    z_n = m - t_n (x1_n - x2_n)
    l_n = max(0, z_n)
    dL/dx1_n = -dL/dl_n t_n              where z_n >= 0,  else 0
    dL/dx2_n = -dL/dx1_n
    dL/dt_n  = -dL/dl_n (x1_n - x2_n)    where z_n >= 0,  else 0

At the kink z = 0 torch takes the slope of the loss, not of the flat part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.layers.soft_margin_loss import signs
from manual_bp.reduction import fitted, named, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample


class MarginRankingLossFunction(Function):
    """``x1``, ``x2`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, target: Tensor, margin: float, reduction: str) -> Tensor:
        return reduced((margin - target * (x1 - x2)).clamp(min=0), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, target, ctx.margin, ctx.reduction = inputs
        ctx.save_for_backward(x1, x2, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, target = ctx.saved_tensors
        a, b, t = widened(x1, x2, target)
        d = a - b
        z = ctx.margin - t * d
        g = torch.where(z >= 0, -share(grad_y, ctx.reduction, z.numel()), grad_y.new_zeros(()))
        grad_x1 = grad_x2 = grad_target = None
        if any(ctx.needs_input_grad[:2]):
            grad_d = g * t
            grad_x1 = fitted(grad_d, x1) if ctx.needs_input_grad[0] else None
            grad_x2 = -fitted(grad_d, x2) if ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[2]:
            grad_target = fitted(g * d, target)
        return grad_x1, grad_x2, grad_target, None, None


@under_autocast("float32")
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Ranking loss, gradients by hand; as ``torch.nn.functional.margin_ranking_loss``.

    Args:
        input1: scores, any shape
        input2: scores, the same rank, a shape that broadcasts
        target: 1 where ``input1`` should be higher, -1 where ``input2``; likewise
        margin: by how much
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for ranks that differ and shapes that do not broadcast.
    """
    reduction = named(reduction, size_average, reduce)
    if input1.dim() != input2.dim() or input1.dim() != target.dim():
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} "
        )
    return MarginRankingLossFunction.apply(input1, input2, target, margin, reduction)


class MarginRankingLoss(torch.nn.MarginRankingLoss):
    """``torch.nn.MarginRankingLoss``, gradients :class:`MarginRankingLossFunction`'s."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Map two tensors of scores and their order to the loss."""
        return margin_ranking_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), signs(draw, 4, 3))
    yield sample(draw(4, 3), draw(4, 3), draw(4, 3), 0.5, reduction="none", label="all, none")
    yield sample(draw(4, 1), draw(1, 3), signs(draw, 4, 3), 0.5, reduction="sum", label="broadcast")
    tie = draw.values(1.0, 1.0, 2.0)
    yield sample(tie, draw.values(1.0, 2.0, 1.0), draw.values(1.0, -1.0, 1.0), smooth=False)
    yield sample(draw(0, 3), draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 2), draw.fixed(4, 3), label="shapes differ")
    yield sample(draw(4, 3), draw(3), draw.fixed(4, 3), label="ranks differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3), signs(draw, 4, 3)), 0.7)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512), signs(draw, 64, 512))
    yield sample(draw(1024, 2048), draw(1024, 2048), signs(draw, 1024, 2048))


SPEC = Spec(
    name="margin_ranking_loss",
    formula="L = mean max(0, m - t (x1 - x2))",
    gradient="dx1 = -dL t / N where m - t (x1 - x2) >= 0, else 0;  dx2 = -dx1",
    manual=margin_ranking_loss,
    native=torch.nn.functional.margin_ranking_loss,
    samples=_samples,
    refused=_refused,
    modules={MarginRankingLoss: _modules},
    bench=_bench,
)
