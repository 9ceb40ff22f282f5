r"""A part of a tensor replaced: slice_scatter, select_scatter, diagonal_scatter; slice reads one.

Forward. ``part`` is a view of some elements of ``x``, each at most once: a slice, a place along an
axis, a diagonal. It is read, or replaced by ``s`` in a copy of ``x``::

    y = part(x)              part(y) = s,  else y = x

Backward of the second: what was replaced is not blamed any more, what came in its place is::

    dL/ds = part(dL/dy)      dL/dx = dL/dy, but part(dL/dx) = 0

It is ``x[index] = s`` without a change to ``x``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.getitem import getitem
from manual_bp.spec import Draw, Sample, Spec, sample

_READ: dict[str, Any] = {
    "slice": torch.ops.aten.slice,
    "select": torch.select,
    "diagonal": torch.diagonal,
}


class PartScatterFunction(Function):
    """``x``: any shape; ``s``: that of the part; ``method``: "slice" and so on, its arguments."""

    @staticmethod
    def forward(x: Tensor, s: Tensor, method: str, *arguments: Any) -> Tensor:
        return getattr(torch, f"{method}_scatter")(x, s, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, s, ctx.method, *ctx.arguments = inputs
        ctx.s_shape, ctx.s_dtype = s.shape, s.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = grad_s = None
        if ctx.needs_input_grad[0]:
            zeros = grad_y.new_zeros(ctx.s_shape)
            grad_x = getattr(torch, f"{ctx.method}_scatter")(grad_y, zeros, *ctx.arguments)
        if ctx.needs_input_grad[1]:
            # Memory of its own: a slice of what came in would be accumulated into.
            grad_s = _READ[ctx.method](grad_y, *ctx.arguments).clone().to(ctx.s_dtype)
        return grad_x, grad_s, None, *[None] * len(ctx.arguments)


def aten_slice(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """Every ``step``-th place along ``dim`` from ``start`` to ``end``; as ``aten.slice``.

    Args:
        input: any shape with an axis
        dim: an axis
        start: the first place; None for 0
        end: one behind the last; None for the whole axis
        step: at least 1

    Returns:
        A view.
    """
    axis = dim % max(input.dim(), 1)
    return getitem(input, (*[slice(None)] * axis, slice(start, end, step)))


def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """``input`` with a slice of it replaced by ``src``; as ``torch.slice_scatter``.

    Args:
        input: any shape with an axis
        src: the shape of the slice
        dim: an axis
        start: the first place; None for 0
        end: one behind the last; None for the whole axis
        step: at least 1

    Raises:
        RuntimeError: From torch, with both shapes, where ``src`` does not fit.
    """
    return PartScatterFunction.apply(input, src, "slice", dim, start, end, step)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """``input`` with a place along ``dim`` replaced; as ``torch.select_scatter``."""
    return PartScatterFunction.apply(input, src, "select", dim, index)


def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """``input`` with a diagonal of it replaced by ``src``; as ``torch.diagonal_scatter``."""
    return PartScatterFunction.apply(input, src, "diagonal", offset, dim1, dim2)


def _read_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), -1, 1, None, 2)
    yield sample(draw(4, 6), 0, -3, 100, label="beyond the end")


def _slice_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), draw(4, 3), 1, 0, 6, 2)
    yield sample(draw(4, 6), draw(2, 6), start=-2, label="from the end")


def _select_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), 1, -2)


def _diagonal_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), draw(3, 2), 1, -1, 0)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), draw(3, 6), 0, 0, 2, label="does not fit")


_FORMULA = "part(y) = s, else y = x"
_GRADIENT = "ds = part(dy),  dx = dy, but 0 at the part"

SLICE = Spec(
    name="slice",
    formula="y = part(x)",
    gradient="part(dx) = dy, else 0",
    manual=aten_slice,
    native=torch.ops.aten.slice,
    overrides=(torch.ops.aten.slice.Tensor,),
    samples=_read_samples,
)
SLICE_SCATTER = Spec(
    name="slice_scatter",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=slice_scatter,
    native=torch.slice_scatter,
    overrides=(torch.Tensor.slice_scatter,),
    samples=_slice_samples,
    refused=_refused,
)
SELECT_SCATTER = Spec(
    name="select_scatter",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=select_scatter,
    native=torch.select_scatter,
    overrides=(torch.Tensor.select_scatter,),
    samples=_select_samples,
)
DIAGONAL_SCATTER = Spec(
    name="diagonal_scatter",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=diagonal_scatter,
    native=torch.diagonal_scatter,
    overrides=(torch.Tensor.diagonal_scatter,),
    samples=_diagonal_samples,
)
