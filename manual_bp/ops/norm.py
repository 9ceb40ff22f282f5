r"""The p-norm of vectors: how large a tensor is over some axes or all.

Forward::

    y = (sum_m |x_m|^p)^(1/p);     p = inf: the largest |x_m|;     p = 0: how many are not 0

Backward. With ``u = sum |x|^p``, dy/du = y^(1-p) / p and ``du/dx_m = p |x_m|^(p-1) sign(x_m)``::

    dL/dx_m = dL/dy sign(x_m) (|x_m| / y)^(p-1);     p = 2: dL/dy x_m / y
    p = inf: dL/dx_m = dL/dy sign(x_m) / k  for the k that are the largest

For p = 2 the gradient is a unit vector: moving along x lengthens it one to one. At x = 0 the norm
has a kink; like PyTorch this takes 0 there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.ops.sum import axes, spread
from manual_bp.spec import Draw, Sample, Spec, sample


class VectorNormFunction(Function):
    """``x``: any shape; ``dim``: axes, or None for all."""

    @staticmethod
    def forward(x: Tensor, p: float, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return torch.linalg.vector_norm(x, p, dim, keepdim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.p, ctx.dim, ctx.keepdim, _ = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_given, y = ctx.saved_tensors
        p, dim, keepdim = ctx.p, ctx.dim, ctx.keepdim
        x = x_given if x_given.is_complex() else x_given.to(y.dtype)
        grad_y, x = widened(grad_y, x)
        if x.dtype != x_given.dtype:  # its power would magnify what y was rounded by
            y = torch.linalg.vector_norm(x, p, dim, keepdim)
        if p == 0:
            return None, None, None, None, None
        if abs(p) == math.inf:
            y = spread(y, x.shape, dim, keepdim)
            is_it = x.abs() == y
            over = axes(dim, x.dim())
            how_many = is_it.sum(over, keepdim=True) if x.dim() else is_it
            grad_x = spread(grad_y, x.shape, dim, keepdim) * x.sgn() * is_it / how_many
        elif p == 2:
            y, grad_y = (spread(t, x.shape, dim, keepdim) for t in (y, grad_y))
            grad_x = grad_y * (x / y).masked_fill(y == 0, 0)
        else:
            factor = (grad_y / y.pow(p - 1)).masked_fill(y == 0, 0)
            factor = spread(factor, x.shape, dim, keepdim)
            if p == 1:
                grad_x = x.sgn() * factor
            else:
                grad_x = (x.sgn() * x.abs().pow(p - 1)).masked_fill(x == 0, 0) * factor
        return grad_x.to(x_given.dtype), None, None, None, None


@under_autocast("float32", devices=("cuda",))
def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The norm of order ``ord`` over the axes ``dim``; as ``torch.linalg.vector_norm``.

    Args:
        x: any shape, floating-point
        ord: p, also 0, inf and -inf
        dim: an axis, several, or None for all
        keepdim: leave the axes in place, with size 1
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return VectorNormFunction.apply(x, ord, dim, keepdim, dtype)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 1, 0, label="p = 1, an axis")
    yield sample(draw(4, 3, 2), 3.5, (0, -1), True, label="p = 3.5, two axes kept")
    yield sample(draw(4, 3), 0.5, -1, label="p = 0.5")
    yield sample(draw(4, 3), -1.5, label="p = -1.5")
    yield sample(draw(4, 3), math.inf, 1, label="p = inf")
    yield sample(draw.values(1.0, -2.0, 2.0), math.inf, label="p = inf, ties", smooth=False)
    yield sample(draw.values(0.0, 0.0, 0.0), label="zeros", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 2, label="no such axis")


_FORMULA = "y = (sum |x|^p)^(1/p)"
_GRADIENT = "dx = dy sign(x) (|x| / y)^(p-1)"

VECTOR_NORM = Spec(
    name="vector_norm",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=vector_norm,
    native=torch.linalg.vector_norm,
    samples=_samples,
    refused=_refused,
)
