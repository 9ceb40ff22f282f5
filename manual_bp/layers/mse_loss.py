r"""Mean squared error: what regression minimises; the mean of the target is its best constant.

Indices: ``n`` element. ``x`` and ``target`` broadcast to a common shape.

Forward and backward, with dL/dl_n the share of ``manual_bp/reduction.py``::

    l_n = (x_n - target_n)^2
    dL/dx_n      = dL/dl_n 2 (x_n - target_n)
    dL/dtarget_n = -dL/dx_n

The gradient is the error itself, so that large errors are answered in proportion: an outlier can
outweigh all the rest. Where the loss follows a sigmoid, the sigmoid's slope remains in the
gradient, and an output that is confidently wrong learns slowly; cross-entropy has no such factor.

Bishop (1995), "Neural Networks for Pattern Recognition", section 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.reduction import named, of_difference, share, times, weighted
from manual_bp.spec import Draw, Sample, Spec, sample


class MSELossFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str) -> Tensor:
        return torch.nn.functional.mse_loss(x, target, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, target = widened(*given)
        d = x - target
        grad_d = times(d, share(grad_y, ctx.reduction, d.numel(), 2.0))
        return *of_difference(ctx, grad_d, *given), None


@under_autocast("float32")
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error with its gradients by hand; as ``torch.nn.functional.mse_loss``.

    Args:
        input: any shape
        target: the same shape, or one that broadcasts (torch warns)
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" (with weights: over their sum) or "sum"
        weight: the shape of ``input``

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        ValueError: For a weight of another shape and an unknown reduction.
    """
    reduction = named(reduction, size_average, reduce)
    if weight is None:
        return MSELossFunction.apply(input, target, reduction)
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    if input.is_complex():  # of which torch takes squares without a modulus
        by_torch: Any = torch.nn.functional.mse_loss
        return by_torch(input, target, reduction=reduction, weight=weight)
    return weighted(MSELossFunction.apply(input, target, "none"), weight, reduction)


class MSELoss(torch.nn.MSELoss):
    """``torch.nn.MSELoss`` whose gradients are :class:`MSELossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map two tensors of one shape to the loss."""
        return mse_loss(input, target, reduction=self.reduction)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(4, 3), reduction="none", label="none")
    yield sample(draw(4, 3), draw.fixed(4, 3), reduction="sum", label="sum")
    yield sample(draw(4, 3), draw(4, 3), None, None, "mean", draw(4, 3), label="weight")
    yield sample(draw(4, 3), draw(4, 3), None, None, "none", draw(4, 3), label="weight, none")
    yield sample(draw(4, 3), draw(4, 3), None, None, "sum", draw(4, 3), label="weight, sum")
    yield sample(draw(), draw(), label="numbers")
    yield sample(draw(0, 3), draw(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), reduction="average", label="reduction")
    yield sample(draw(4, 3), draw(4, 3), weight=draw(3), label="weight differs")
    yield sample(
        draw(4, 3), draw(4, 3), weight=draw(4, 3), reduction="all", label="weight, reduction"
    )


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3)))
    yield sample((draw(4, 3), draw(4, 3)), reduction="none")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.fixed(64, 512))
    yield sample(draw(1024, 2048), draw.fixed(1024, 2048))


SPEC = Spec(
    name="mse_loss",
    formula="L = mean (x - target)^2",
    gradient="dx = dL 2 (x - target) / N,  dtarget = -dx",
    manual=mse_loss,
    native=torch.nn.functional.mse_loss,
    samples=_samples,
    refused=_refused,
    modules={MSELoss: _modules},
    bench=_bench,
)
