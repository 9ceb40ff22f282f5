r"""Variance and standard deviation over some axes or all.

Forward, over the M elements ``m`` that end in one output ``n``, with mu_n their mean and c the
``correction``, 1 for Bessel's::

    y_n = 1/(M - c) sum_m (x_nm - mu_n)^2            s_n = sqrt(y_n)

Backward. The way through mu vanishes, as sum_m (x_nm - mu_n) = 0::

    dL/dx_nm = dL/dy_n 2/(M - c) (x_nm - mu_n)
    dL/dx_nm = dL/ds_n 1/(M - c) (x_nm - mu_n) / s_n           since ds/dy = 1/(2 s)

Where s is 0 all x are equal, and like PyTorch this takes 0 for 0/0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.ops.sum import axes, mean, spread
from manual_bp.spec import Draw, Sample, Spec, sample


def _correction(unbiased: bool | None, correction: float | None) -> float:
    """Subtracted from M: ``correction``, or what ``unbiased`` says."""
    if correction is not None:
        return correction
    return 0 if unbiased is False else 1


def _deviation(x: Tensor, dim: Any, correction: float) -> Tensor:
    """``(x - mean) / (M - correction)``."""
    over = axes(dim, x.dim())
    count = math.prod([x.shape[axis] for axis in over] if x.dim() else [])
    center = x.mean(over, keepdim=True) if x.dim() else x
    degrees = max(count - correction, 0)
    return (x - center) * (1 / degrees if degrees else math.inf)


class VarFunction(Function):
    """``x``: any shape; ``dim``: axes, or None for all."""

    @staticmethod
    def forward(x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
        return torch.var(x, dim, correction=correction, keepdim=keepdim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.correction, ctx.keepdim = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        grad_y, wide = widened(grad_y, x)
        grad_y = spread(grad_y, x.shape, ctx.dim, ctx.keepdim)
        grad_x = 2 * grad_y * _deviation(wide, ctx.dim, ctx.correction)
        return grad_x.to(x.dtype), None, None, None


class StdFunction(Function):
    """``x``: any shape; ``dim``: axes, or None for all."""

    @staticmethod
    def forward(x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
        return torch.std(x, dim, correction=correction, keepdim=keepdim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.correction, ctx.keepdim = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> tuple[Tensor | None, ...]:
        x, s = ctx.saved_tensors
        grad_s, wide, s = widened(grad_s, x, s)
        grad_s = (grad_s / s).masked_fill(s == 0, 0)
        grad_s = spread(grad_s, x.shape, ctx.dim, ctx.keepdim)
        grad_x = grad_s * _deviation(wide, ctx.dim, ctx.correction)
        return grad_x.to(x.dtype), None, None, None


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Variance over the axes ``dim``; as ``torch.var``.

    Args:
        input: any shape, floating-point
        dim: an axis, several, or None for all; a bool is ``unbiased``
        unbiased: False for a correction of 0
        keepdim: leave the axes in place, with size 1
        correction: subtracted from the number of elements; 1 by default

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return VarFunction.apply(input, dim, _correction(unbiased, correction), keepdim)


def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Standard deviation over the axes ``dim``; as ``torch.std``, arguments as :func:`var`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return StdFunction.apply(input, dim, _correction(unbiased, correction), keepdim)


def var_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Variance and mean; as ``torch.var_mean``, arguments as :func:`var`."""
    over = None if isinstance(dim, bool) else dim
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, over, keepdim)


def std_mean(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean; as ``torch.std_mean``, arguments as :func:`var`."""
    over = None if isinstance(dim, bool) else dim
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, over, keepdim)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), 1, label="an axis")
    yield sample(draw(4, 3, 2), (0, -1), keepdim=True, correction=0, label="two axes kept")
    yield sample(draw(4, 3), False, label="biased")
    yield sample(draw(4, 3, shift=1e3), -1, label="large mean")


def _std_samples(draw: Draw) -> Iterator[Sample]:
    yield from _samples(draw)
    yield sample(draw.values(2.0, 2.0, 2.0), label="all equal", smooth=False)


def _mean_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1)


VAR = Spec(
    name="var",
    formula="y = sum (x - mean)^2 / (M - c)",
    gradient="dx = 2 dy (x - mean) / (M - c)",
    manual=var,
    native=torch.var,
    overrides=(torch.Tensor.var,),
    samples=_samples,
)
STD = Spec(
    name="std",
    formula="s = sqrt(sum (x - mean)^2 / (M - c))",
    gradient="dx = ds (x - mean) / (s (M - c))",
    manual=std,
    native=torch.std,
    overrides=(torch.Tensor.std,),
    samples=_std_samples,
)
VAR_MEAN = Spec(
    name="var_mean",
    formula="variance and mean",
    gradient="var's plus mean's",
    manual=var_mean,
    native=torch.var_mean,
    samples=_mean_samples,
)
STD_MEAN = Spec(
    name="std_mean",
    formula="standard deviation and mean",
    gradient="std's plus mean's",
    manual=std_mean,
    native=torch.std_mean,
    samples=_mean_samples,
)
