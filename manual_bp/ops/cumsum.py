r"""The sums up to each element along an axis: cumsum.

Forward, for j = 1..J along an axis::

    y_j = sum_{i <= j} x_i

Backward. x_i is met in every y_j that is not before it: a cumsum from the end::

    dL/dx_i = sum_{j >= i} dL/dy_j
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, in_dtype, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


def from_the_end(t: Tensor, dim: int) -> Tensor:
    """``sum_{j >= i} t_j``."""
    return t.flip(dim).cumsum(dim).flip(dim)


class CumsumFunction(Function):
    """``x``: any shape; ``dim``: an axis."""

    @staticmethod
    def forward(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        return torch.cumsum(x, dim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, _ = inputs
        ctx.dtype = x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return in_dtype(from_the_end(grad_y, ctx.dim), ctx.dtype), None, None


@under_autocast("float32", devices=("cuda",))
def cumsum(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """The sums up to each element along ``dim``; as ``torch.cumsum``.

    Args:
        input: any shape
        dim: an axis
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return CumsumFunction.apply(input, dim, dtype)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0)
    yield sample(draw(4, 3, 2), -2, label="from the end")
    yield sample(draw(0, 3), 0, label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")


CUMSUM = Spec(
    name="cumsum",
    formula="y_j = sum_{i <= j} x_i",
    gradient="dx_i = sum_{j >= i} dy_j",
    manual=cumsum,
    native=torch.cumsum,
    overrides=(torch.Tensor.cumsum,),
    samples=_samples,
    refused=_refused,
)
