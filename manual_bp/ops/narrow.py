r"""A part of a tensor: select, narrow, masked_select.

Forward: some elements of ``x``, each at most once, those of a place along an axis, of a range, or
where a mask is True::

    y_m = x_i(m)

Backward: those elements are blamed, and no others::

    dL/dx_i(m) = dL/dy_m,   dL/dx_i = 0 elsewhere
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.expand import expand
from manual_bp.ops.getitem import getitem
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


def _among_zeros(part: Tensor, dim: int, start: int, shape: torch.Size) -> Tensor:
    """``part`` at ``start`` along ``dim``, zeros before and after it up to ``shape``."""
    axes_behind = len(shape) - 1 - dim % len(shape)
    after = shape[dim] - start - part.shape[dim]
    return torch.nn.functional.pad(part, [0, 0] * axes_behind + [start, after])


class SelectFunction(Function):
    """``arguments``: the axis, and the place along it."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: int) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.dim, ctx.index = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        index = ctx.index % ctx.shape[ctx.dim]
        grad_x = _among_zeros(grad_y.unsqueeze(ctx.dim), ctx.dim, index, ctx.shape)
        return grad_x, None, None, None


class NarrowFunction(Function):
    """``arguments``: the axis, where the range starts, and its length."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: int) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.dim, start, _ = inputs
        ctx.shape = x.shape
        ctx.start = start if start >= 0 else start + x.shape[ctx.dim]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return _among_zeros(grad_y, ctx.dim, ctx.start, ctx.shape), *[None] * 4


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The place ``index`` along ``dim``, without that axis; as ``torch.select``.

    Raises:
        IndexError: From torch, where there is no such axis or place.
    """
    return view_of(SelectFunction, input, "select", dim, index)


def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """``length`` places along ``dim`` from ``start`` on; as ``torch.narrow``.

    Raises:
        RuntimeError: From torch, where the range goes beyond the axis.
    """
    return view_of(NarrowFunction, input, "narrow", dim, int(start), length)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where ``mask`` is True, as a vector; as ``torch.masked_select``.

    Args:
        input: a shape that broadcasts with that of ``mask``
        mask: bool
    """
    if mask.dtype != torch.bool:
        return torch.masked_select(input, mask)  # which says what is wrong
    shape = torch.broadcast_shapes(input.shape, mask.shape)
    return getitem(expand(input, shape), mask.expand(shape))


def _select_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, 2)
    yield sample(draw(4, 3, 2), -1, -2, label="from the end")


def _narrow_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 1, 2, 3)
    yield sample(draw(4, 6), 0, -3, 2, label="from the end")


def _masked_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 3) > 0)
    yield sample(draw(4, 3), torch.tensor([True, False, True]), label="broadcast")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, 3, label="no such place")


def _narrow_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 1, 4, 3, label="beyond the axis")


_GRADIENT = "dx_i(m) = dy_m, else 0"

SELECT = Spec(
    name="select",
    formula="y_m = x_i(m)",
    gradient=_GRADIENT,
    manual=select,
    native=torch.select,
    overrides=(torch.Tensor.select,),
    samples=_select_samples,
    refused=_refused,
)
NARROW = Spec(
    name="narrow",
    formula="y_m = x_(start + m)",
    gradient=_GRADIENT,
    manual=narrow,
    native=torch.narrow,
    overrides=(torch.Tensor.narrow,),
    samples=_narrow_samples,
    refused=_narrow_refused,
)
MASKED_SELECT = Spec(
    name="masked_select",
    formula="y_m = the m-th x_i where mask_i",
    gradient=_GRADIENT,
    manual=masked_select,
    native=torch.masked_select,
    overrides=(torch.Tensor.masked_select,),
    samples=_masked_samples,
    compiles=False,
)
