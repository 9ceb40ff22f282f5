r"""Smooth L1 and Huber: a square for small errors, a straight line for large ones.

Indices: ``n`` element; ``x`` and ``target`` broadcast to a common shape; ``d = x - target``.

Forward and backward, with dL/dl_n the share of ``manual_bp/reduction.py``::

    smooth L1:  l_n = d_n^2 / (2 beta)             where |d_n| < beta,  else |d_n| - beta/2
                dL/dx_n = dL/dl_n d_n / beta       where |d_n| < beta,  else dL/dl_n sign(d_n)

    Huber:      l_n = d_n^2 / 2                    where |d_n| <= delta,
                      delta (|d_n| - delta/2)      else
                dL/dx_n = dL/dl_n d_n              where |d_n| < delta,
                          dL/dl_n delta sign(d_n)  else

    dL/dtarget_n = -dL/dx_n

The Huber loss is delta times the smooth L1 loss with beta = delta. Both gradients are the error,
cut off: ``clamp(d / beta, -1, 1)`` and ``clamp(d, -delta, delta)``. So a step fades near the
minimum, as with the squared error, and an outlier cannot outweigh the rest, as with the absolute
one. With beta = 0 nothing is left of the square.

Huber (1964), "Robust Estimation of a Location Parameter"; Girshick (2015), "Fast R-CNN",
section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.layers.l1_loss import l1_loss
from manual_bp.reduction import named, of_difference, share, times, weighted
from manual_bp.spec import Draw, Sample, Spec, sample


def cut_off(d: Tensor, limit: float) -> Tensor:
    """``d`` clamped to [-limit, limit]; a copy where recorded, else ``d`` itself."""
    if is_recorded():
        # Not clamp: its own slope on the very limit is 1, where torch takes 0 for these losses.
        return torch.where(d.abs() >= limit, limit * d.sign(), d)
    return d.clamp_(-limit, limit)


class SmoothL1LossFunction(Function):
    """``x`` and ``target``: shapes that broadcast; ``beta`` > 0."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str, beta: float) -> Tensor:
        return torch.nn.functional.smooth_l1_loss(x, target, reduction=reduction, beta=beta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction, ctx.beta = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, target = widened(*given)
        d = cut_off(x - target, ctx.beta)
        grad_d = times(d, share(grad_y, ctx.reduction, d.numel(), 1 / ctx.beta))
        return *of_difference(ctx, grad_d, *given), None, None


class HuberLossFunction(Function):
    """``x`` and ``target``: shapes that broadcast; ``delta`` > 0."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str, delta: float) -> Tensor:
        return torch.nn.functional.huber_loss(x, target, reduction=reduction, delta=delta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction, ctx.delta = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, target = widened(*given)
        d = cut_off(x - target, ctx.delta)
        grad_d = times(d, share(grad_y, ctx.reduction, d.numel()))
        return *of_difference(ctx, grad_d, *given), None, None


@under_autocast("float32")
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Smooth L1 with its gradients by hand; as ``torch.nn.functional.smooth_l1_loss``.

    Args:
        input: any shape
        target: the same shape, or one that broadcasts (torch warns)
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"
        beta: the error from which on the loss is straight, at least 0

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast and a negative ``beta``.
    """
    reduction = named(reduction, size_average, reduce)
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return SmoothL1LossFunction.apply(input, target, reduction, beta)


@under_autocast("float32")
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Huber loss with its gradients by hand; as ``torch.nn.functional.huber_loss``.

    Args:
        input: any shape
        target: the same shape, or one that broadcasts (torch warns)
        reduction: "none", "mean" (over the elements, with weights too) or "sum"
        delta: the error from which on the loss is straight, above 0
        weight: the shape of ``input``

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast and ``delta`` not above 0.
        ValueError: For a weight of another shape and an unknown reduction.
    """
    reduction = named(reduction, None, None)
    if weight is None:
        return HuberLossFunction.apply(input, target, reduction, delta)
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    losses = HuberLossFunction.apply(input, target, "none", delta)
    return weighted(losses, weight, reduction, over_weights=False)


class SmoothL1Loss(torch.nn.SmoothL1Loss):
    """``torch.nn.SmoothL1Loss`` whose gradients are :class:`SmoothL1LossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map two tensors of one shape to the loss."""
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(torch.nn.HuberLoss):
    """``torch.nn.HuberLoss`` whose gradients are :class:`HuberLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map two tensors of one shape to the loss."""
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


def _samples(draw: Draw, limit: str = "beta") -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    near: dict[str, Any] = {limit: 0.4}
    far: dict[str, Any] = {limit: 2.5}
    yield sample(draw(4, 3), draw(4, 3), reduction="none", **near, label="none")
    yield sample(draw(4, 3), draw.fixed(4, 3), reduction="sum", **far, label="sum")
    kinks = draw.values(-1.0, 1.0, 0.0, 3.0, float("-inf"))
    yield sample(kinks, draw.values(0.0, 0.0, 0.0, 0.0, 0.0), label="kinks", smooth=False)
    yield sample(draw(0, 3), draw(0, 3), reduction="sum", label="no examples")


def _smooth_l1_samples(draw: Draw) -> Iterator[Sample]:
    yield from _samples(draw)
    yield sample(draw(4, 3), draw(4, 3), beta=0.0, label="beta 0")


def _huber_samples(draw: Draw) -> Iterator[Sample]:
    yield from _samples(draw, "delta")
    yield sample(draw(4, 3), draw(4, 3), "mean", 0.7, draw(4, 3), label="weight")
    yield sample(draw(4, 3), draw(4, 3), "none", 0.7, draw(4, 3), label="weight, none")


def _smooth_l1_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), beta=-1.0, label="beta")
    yield sample(draw(4, 3), draw(4, 3), reduction="average", label="reduction")


def _huber_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), delta=0.0, label="delta")
    yield sample(draw(4, 3), draw(4, 3), weight=draw(3), label="weight differs")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3)))
    yield sample((draw(4, 3), draw(4, 3)), reduction="none")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.fixed(64, 512))
    yield sample(draw(1024, 2048), draw.fixed(1024, 2048))


SMOOTH_L1 = Spec(
    name="smooth_l1_loss",
    formula="L = mean of d^2 / (2 beta) or |d| - beta/2,  d = x - target",
    gradient="dx = dL clamp(d / beta, -1, 1) / N,  dtarget = -dx",
    manual=smooth_l1_loss,
    native=torch.nn.functional.smooth_l1_loss,
    samples=_smooth_l1_samples,
    refused=_smooth_l1_refused,
    modules={SmoothL1Loss: _modules},
    bench=_bench,
)

HUBER = Spec(
    name="huber_loss",
    formula="L = mean of d^2 / 2 or delta (|d| - delta/2),  d = x - target",
    gradient="dx = dL clamp(d, -delta, delta) / N,  dtarget = -dx",
    manual=huber_loss,
    native=torch.nn.functional.huber_loss,
    samples=_huber_samples,
    refused=_huber_refused,
    modules={HuberLoss: _modules},
    bench=_bench,
)
