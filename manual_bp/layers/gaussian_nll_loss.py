r"""Negative log-likelihood of a normal distribution whose variance is predicted too.

Indices: ``n`` element. ``x`` is the mean, ``v = max(var, eps)`` the variance, one for each
element or for each group of them. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, with d_n = x_n - t_n::

    l_n = 1/2 (log v_n + d_n^2 / v_n),  + log(2 pi) / 2 with ``full``

Backward::

    dL/dx_n   = dL/dl_n d_n / v_n
    dL/dt_n   = -dL/dx_n
    dL/dvar_n = dL/dl_n 1/2 (1 - d_n^2 / v_n) / v_n       summed over the group

The error counts less where the variance is large, and the variance grows where it is smaller than
the squared error: at the minimum it is the mean squared error. Torch's bound ``eps`` is not
differentiated: a variance below it still gets the gradient that it would have at ``eps``.

Nix & Weigend (1994), "Estimating the Mean and Variance of the Target Probability Distribution".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.reduction import fitted, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample


class GaussianNLLLossFunction(Function):
    """``x``, ``target`` and ``var``: shapes that broadcast, but for ``var``'s last axis."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, var: Tensor, full: bool, eps: float, reduction: str
    ) -> Tensor:
        v = along(var, x).clamp(min=eps)
        losses = 0.5 * (v.log() + (x - target) ** 2 / v)
        if full:
            losses = losses + 0.5 * math.log(2 * math.pi)
        return reduced(losses, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, var, ctx.full, ctx.eps, ctx.reduction = inputs
        ctx.save_for_backward(x, target, var)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, var = ctx.saved_tensors
        mean, t, v = widened(x, target, along(var, x))
        # Bounded, and still with a gradient of 1: the bound is added as a constant.
        v = v + (v.clamp(min=ctx.eps) - v).detach()
        d = mean - t
        shape = torch.broadcast_shapes(d.shape, v.shape)
        g = share(grad_y, ctx.reduction, shape.numel())
        grad_x = grad_target = grad_var = None
        if any(ctx.needs_input_grad[:2]):
            grad_d = (g * d / v).expand(shape)
            grad_x = fitted(grad_d, x) if ctx.needs_input_grad[0] else None
            grad_target = -fitted(grad_d, target) if ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[2]:
            grad_v = 0.5 * g * (1 - d.square() / v) / v
            grad_var = grad_v.expand(shape).sum_to_size(v.shape).view_as(var).to(var.dtype)
        return grad_x, grad_target, grad_var, None, None, None


def along(var: Tensor, x: Tensor) -> Tensor:
    """``var`` with the axis that it lacks where there is one variance for each row."""
    return var.unsqueeze(-1) if var.dim() == x.dim() - 1 else var


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Normal likelihood, gradients by hand; as ``torch.nn.functional.gaussian_nll_loss``.

    Args:
        input: the mean, any shape
        target: the same shape, or one that broadcasts
        var: the variance, at least 0: a number, the shape of ``input``, that shape without its
            last axis, or with a 1 in one place
        full: add log(2 pi) / 2
        eps: the smallest variance
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        ValueError: For a negative variance or one whose shape does not fit.
    """
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = torch.full_like(input, var, requires_grad=False)
    elif torch.any(var < 0):
        raise ValueError("var has negative entry/entries")
    if var.shape not in (input.shape, input.shape[:-1]):
        # What is left is a 1 in one place.
        differing = [n for m, n in zip(input.shape, var.shape, strict=False) if m != n]
        if input.dim() != var.dim() or differing != [1]:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    return GaussianNLLLossFunction.apply(input, target, var, full, eps, reduction)


class GaussianNLLLoss(torch.nn.GaussianNLLLoss):
    """``torch.nn.GaussianNLLLoss`` whose gradients are :class:`GaussianNLLLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        """Map means, truth and variances to the loss."""
        return gaussian_nll_loss(
            input, target, var, full=self.full, eps=self.eps, reduction=self.reduction
        )


def _variance(draw: Draw, *shape: int) -> Tensor:
    return draw.uniform(*shape, low=0.2, high=2.0).requires_grad_()


def _samples(draw: Draw) -> Iterator[Sample]:
    # A number first: torch looks at a tensor's values, which neither vmap nor compile allow.
    yield sample(draw(4, 3), draw(4, 3), 0.5)
    yield sample(draw(4, 3), draw(4, 3), _variance(draw, 4, 3), True, label="full")
    yield sample(draw(4, 3), draw(4, 3), _variance(draw, 4), reduction="sum", label="a row's")
    yield sample(draw(4, 3), draw(4, 3), _variance(draw, 4, 1), reduction="none", label="ones")
    small = draw.values(0.0, 0.1, 0.5, 1.0)
    yield sample(draw(4), draw(4), small, eps=0.3, label="bounded", smooth=False)
    yield sample(draw(0, 3), draw(0, 3), _variance(draw, 0, 3), reduction="sum", label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), draw.fixed(4, 3), label="negative")
    yield sample(draw(4, 3), draw(4, 3), -1.0, label="a negative number")
    yield sample(draw(4, 3), draw(4, 3), draw.uniform(3), label="shape")
    yield sample(draw(4, 3), draw(4, 3), draw.uniform(4), reduction="average", label="reduction")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3), _variance(draw, 4, 3)))
    yield sample((draw(4, 3), draw(4, 3), _variance(draw, 4)), full=True, reduction="none")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.fixed(64, 512), _variance(draw, 64, 512))
    yield sample(draw(1024, 2048), draw.fixed(1024, 2048), _variance(draw, 1024, 2048))


SPEC = Spec(
    name="gaussian_nll_loss",
    formula="L = mean (log v + (x - t)^2 / v) / 2",
    gradient="dx = dL (x - t) / v / N,  dt = -dx,  dv = dL (1 - (x - t)^2 / v) / (2 v) / N",
    manual=gaussian_nll_loss,
    native=torch.nn.functional.gaussian_nll_loss,
    samples=_samples,
    refused=_refused,
    modules={GaussianNLLLoss: _modules},
    bench=_bench,
)
