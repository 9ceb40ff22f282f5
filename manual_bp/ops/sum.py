r"""Sum and mean over some axes or all.

Forward, over the M elements ``m`` that end in one output ``n``::

    y_n = sum_m x_nm               y_n = 1/M sum_m x_nm

Backward: each term had a weight of 1, or 1/M, in its sum, and is blamed by that::

    dL/dx_nm = dL/dy_n             dL/dx_nm = dL/dy_n / M

Summing and repeating are each other's backward: the gradient here is an expand, and that of an
expand is a sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, in_dtype, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


def axes(dim: int | tuple[int, ...] | None, rank: int) -> list[int]:
    """The axes, counted from the front and in order, that a ``dim`` argument means."""
    if dim is None or dim == () or dim == []:
        return list(range(rank))
    return sorted(d % max(rank, 1) for d in ([dim] if isinstance(dim, int) else dim))


def spread(reduced: Tensor, shape: torch.Size, dim: Any, keepdim: bool) -> Tensor:
    """What was reduced over ``dim`` from ``shape``, repeated back along the axes it lost."""
    if shape and not keepdim:
        for axis in axes(dim, len(shape)):
            reduced = reduced.unsqueeze(axis)
    return reduced.expand(shape)


class SumFunction(Function):
    """``x``: any shape; ``dim``: axes, or None for all."""

    @staticmethod
    def forward(x: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return torch.sum(x, dim, keepdim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.keepdim, _ = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = spread(in_dtype(grad_y, ctx.dtype), ctx.shape, ctx.dim, ctx.keepdim)
        return grad_x, None, None, None


class MeanFunction(Function):
    """``x``: any shape; ``dim``: axes, or None for all."""

    @staticmethod
    def forward(x: Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return torch.mean(x, dim, keepdim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.keepdim, _ = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.count = x.numel() // max(output.numel(), 1)  # M

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_y = (
            in_dtype(grad_y, ctx.dtype) / ctx.count
        )  # before it is repeated: M times less to do
        return spread(grad_y, ctx.shape, ctx.dim, ctx.keepdim), None, None, None


@under_autocast("float32", devices=("cuda",))
def sum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """Sum over the axes ``dim``; as ``torch.sum``.

    Args:
        input: any shape
        dim: an axis, several, or None for all
        keepdim: leave the axes in place, with size 1
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return SumFunction.apply(input, dim, keepdim, dtype)


def mean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """Mean over the axes ``dim``; as ``torch.mean``.

    Args:
        input: any shape, floating-point
        dim: an axis, several, or None for all
        keepdim: leave the axes in place, with size 1
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return MeanFunction.apply(input, dim, keepdim, dtype)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), 1, label="an axis")
    yield sample(draw(4, 3, 2), (0, -1), True, label="two axes kept")
    yield sample(draw(4, 3, 2), (-1, 0), label="two axes")
    yield sample(draw(), 0, label="no axis")
    yield sample(draw(0, 3), 1, label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")
    yield sample(draw(4, 3), (0, 0), label="an axis twice")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), 0)
    yield sample(draw(1024, 2048), -1)


SUM = Spec(
    name="sum",
    formula="y_n = sum_m x_nm",
    gradient="dx_nm = dy_n",
    manual=sum,
    native=torch.sum,
    overrides=(torch.Tensor.sum,),
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
MEAN = Spec(
    name="mean",
    formula="y_n = 1/M sum_m x_nm",
    gradient="dx_nm = dy_n / M",
    manual=mean,
    native=torch.mean,
    overrides=(torch.Tensor.mean,),
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
