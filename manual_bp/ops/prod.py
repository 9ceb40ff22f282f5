r"""Products along an axis: prod, of all, and cumprod, up to each element.

Forward, for j = 1..J along an axis::

    prod          y   = prod_i x_i
    cumprod       y_j = prod_{i <= j} x_i

Backward. x_i is met in every y_j that is not before it, with the other factors for its slope::

    prod          dL/dx_i = dL/dy  times the other factors
    cumprod       dL/dx_i = p_i s_i,  p_i = prod_{h < i} x_h,  s_i = dL/dy_i + x_(i+1) s_(i+1)

Where no factor is 0, the products of the others are y / x_i, and those of cumprod are
sum_{j >= i} dL/dy_j y_j / x_i. With zeros that is 0/0, and the products are made without division:
for prod from both ends, for cumprod by the recurrence for s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, in_dtype, is_recorded, under_autocast, widened
from manual_bp.ops.cumsum import from_the_end
from manual_bp.ops.sum import spread
from manual_bp.spec import Draw, Sample, Spec, sample


def _before(x: Tensor, dim: int) -> Tensor:
    """``prod_{h < i} x_h``."""
    if x.dim() == 0 or x.shape[dim] == 0:
        return torch.ones_like(x)
    first = torch.ones_like(x.narrow(dim, 0, 1))
    return torch.cat([first, x.narrow(dim, 0, x.shape[dim] - 1)], dim).cumprod(dim)


def _may_divide(x: Tensor) -> bool:
    """Whether no factor is 0; asked only where operations are run one by one."""
    return not is_recorded() and bool((x != 0).all())


class ProdFunction(Function):
    """``x``: any shape; ``dim``: an axis, or None for all."""

    @staticmethod
    def forward(x: Tensor, dim: int | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        if dim is None:
            return torch.prod(x, dtype=dtype)
        return torch.prod(x, dim, keepdim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.keepdim, _ = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_given, y = ctx.saved_tensors
        grad_y, x, y = widened(grad_y, x_given.to(y.dtype), y)
        grad_y = spread(grad_y, x.shape, ctx.dim, ctx.keepdim)
        if _may_divide(x):
            others = spread(y, x.shape, ctx.dim, ctx.keepdim) / x
        else:
            dim = 0 if ctx.dim is None else ctx.dim
            factors = x.flatten() if ctx.dim is None else x
            others = _before(factors, dim) * _before(factors.flip(dim), dim).flip(dim)
        grad_x = grad_y * others.view(x.shape).conj()
        return in_dtype(grad_x, x_given.dtype), None, None, None


class CumprodFunction(Function):
    """``x``: any shape; ``dim``: an axis."""

    @staticmethod
    def forward(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        return torch.cumprod(x, dim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, _ = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_given, y = ctx.saved_tensors
        grad_y, x, y = widened(grad_y, x_given.to(y.dtype), y)
        x, y = x.conj(), y.conj()
        if x.dim() == 0 or x.shape[ctx.dim] == 0:
            return in_dtype(grad_y, x_given.dtype), None, None
        if _may_divide(x):
            grad_x = from_the_end(grad_y * y, ctx.dim) / x
        else:
            s, sums = None, []
            for g, following in zip(
                reversed(grad_y.unbind(ctx.dim)),
                (None, *reversed(x.unbind(ctx.dim))),
                strict=False,
            ):
                s = g if s is None else g + following * s
                sums.append(s)
            grad_x = _before(x, ctx.dim) * torch.stack(sums[::-1], ctx.dim)
        return in_dtype(grad_x, x_given.dtype), None, None


@under_autocast("float32")
def prod(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The product along ``dim``, or of all; as ``torch.prod``.

    Args:
        input: any shape
        dim: an axis, or None for all
        keepdim: leave the axis in place, with size 1
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return ProdFunction.apply(input, dim, keepdim, dtype)


@under_autocast("float32", devices=("cuda",))
def cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """The products up to each element along ``dim``; as ``torch.cumprod``.

    Args:
        input: any shape
        dim: an axis
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return CumprodFunction.apply(input, dim, dtype)


def _cumprod_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0)
    yield sample(draw(4, 3, 2), -2, label="from the end")
    yield sample(draw(0, 3), 0, label="no examples")
    yield sample(draw.values(2.0, 0.0, -3.0, 0.0, 4.0), 0, label="zeros")


def _prod_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), -2, True, label="an axis kept")
    yield sample(draw.values(2.0, 0.0, -3.0), label="a zero")
    yield sample(draw.values(2.0, 0.0, 0.0), 0, label="two zeros")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")


CUMPROD = Spec(
    name="cumprod",
    formula="y_j = prod_{i <= j} x_i",
    gradient="dx_i = sum_{j >= i} dy_j y_j / x_i",
    manual=cumprod,
    native=torch.cumprod,
    overrides=(torch.Tensor.cumprod,),
    samples=_cumprod_samples,
    refused=_refused,
)
PROD = Spec(
    name="prod",
    formula="y = prod_i x_i",
    gradient="dx_i = dy times the other factors",
    manual=prod,
    native=torch.prod,
    overrides=(torch.Tensor.prod,),
    samples=_prod_samples,
    refused=_refused,
)
