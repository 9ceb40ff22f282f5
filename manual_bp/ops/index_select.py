r"""Read and write whole slices along an axis: index_select, index_add and their like.

Forward, for slices along one axis and a vector of places i(m)::

    index_select  y_m = x_i(m)
    index_add     y_i = x_i + alpha sum_{m: i(m) = i} s_m
    index_copy    y_i(m) = s_m, else y_i = x_i
    index_fill    y_i(m) = v,   else y_i = x_i

Backward. Reading and adding up are each other's backward; what was written over is not blamed::

    index_select  dL/dx_i = sum_{m: i(m) = i} dL/dy_m
    index_add     dL/dx = dL/dy                           dL/ds_m = alpha dL/dy_i(m)
    index_copy    dL/dx_i = dL/dy_i, but 0 at all i(m)    dL/ds_m = dL/dy_i(m)
    index_fill    dL/dx_i = dL/dy_i, but 0 at all i(m)    dL/dv = sum_m dL/dy_i(m)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class IndexSelectFunction(Function):
    """``x``: any shape; ``index``: a vector of places along ``dim``."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor) -> Tensor:
        return torch.index_select(x, dim, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, index = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return grad_y.new_zeros(ctx.shape).index_add(ctx.dim, index, grad_y), None, None


class IndexAddFunction(Function):
    """``x``: any shape; ``source``: the slices that are added at ``index`` along ``dim``."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float) -> Tensor:
        return torch.index_add(x, dim, index, source, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, source, ctx.alpha = inputs
        ctx.source_shape = source.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        grad_source = None
        if ctx.needs_input_grad[3]:
            grad_source = grad_y.index_select(ctx.dim, index).view(ctx.source_shape)
            grad_source = grad_source if ctx.alpha == 1 else grad_source * ctx.alpha
        return grad_y, None, None, grad_source, None


class IndexCopyFunction(Function):
    """``x``: any shape; ``source``: the slices that are written at ``index`` along ``dim``."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
        return torch.index_copy(x, dim, index, source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, source = inputs
        ctx.source_shape = source.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        grad_x = grad_source = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y.index_fill(ctx.dim, index, 0)
        if ctx.needs_input_grad[3]:
            grad_source = grad_y.index_select(ctx.dim, index).view(ctx.source_shape)
        return grad_x, None, None, grad_source


class IndexFillFunction(Function):
    """``x``: any shape; ``value``: a number, or a tensor of one, for the slices at ``index``."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor, value: Tensor | float) -> Tensor:
        return torch.index_fill(x, dim, index, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, _ = inputs
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        grad_x = grad_value = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y.index_fill(ctx.dim, index, 0)
        if ctx.needs_input_grad[3]:
            # Where places repeat, each element is filled once all the same.
            kept = torch.ones_like(grad_y, dtype=torch.bool).index_fill(ctx.dim, index, False)
            grad_value = grad_y.masked_fill(kept, 0).sum()
        return grad_x, None, None, grad_value


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of ``input`` at ``index`` along ``dim``; as ``torch.index_select``.

    Args:
        input: any shape
        dim: an axis
        index: (K), int64 or int32

    Returns:
        The shape of ``input``, with K along ``dim``.

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return IndexSelectFunction.apply(input, dim, index)


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """``input`` with slices added at ``index`` along ``dim``; as ``torch.index_add``.

    Args:
        input: any shape
        dim: an axis
        index: (K), int64 or int32
        source: the shape of ``input``, with K along ``dim``
        alpha: what ``source`` is multiplied by

    Returns:
        The shape of ``input``.

    Raises:
        RuntimeError: From torch, where shapes do not fit.
    """
    return IndexAddFunction.apply(input, dim, index, source, alpha)


def index_add_(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """``index_add`` in place; as ``Tensor.index_add_``."""
    return copy_(input, index_add(input, dim, index, source, alpha=alpha))


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with slices written at ``index`` along ``dim``; as ``torch.index_copy``."""
    return IndexCopyFunction.apply(input, dim, index, source)


def index_copy_(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``index_copy`` in place; as ``Tensor.index_copy_``."""
    return copy_(input, index_copy(input, dim, index, source))


def index_fill(input: Tensor, dim: int, index: Tensor, value: Tensor | float) -> Tensor:
    """``input`` with ``value`` in the slices at ``index``; as ``torch.index_fill``."""
    return IndexFillFunction.apply(input, dim, index, value)


def index_fill_(input: Tensor, dim: int, index: Tensor, value: Tensor | float) -> Tensor:
    """``index_fill`` in place; as ``Tensor.index_fill_``."""
    return copy_(input, index_fill(input, dim, index, value))


def _select_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, draw.integers(4, 6))
    yield sample(draw(4, 3, 2), -2, draw.integers(3, 2), label="from the end")


def _add_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, draw.integers(4, 6), draw(6, 3))
    yield sample(draw(4, 3), 1, draw.integers(3, 2), draw(4, 2), alpha=-2.5, label="alpha")


def _copy_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, torch.tensor([2, 0]), draw(2, 3))


def _fill_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, torch.tensor([2, 0]), draw())
    yield sample(draw(4, 3), 1, torch.tensor([2, 0, 2]), draw(), label="repeated")
    yield sample(draw(4, 3), 0, torch.tensor([2, 2]), 1.5, label="a number")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, draw.integers(3, 4), label="no such axis")


INDEX_SELECT = Spec(
    name="index_select",
    formula="y_m = x_i(m)",
    gradient="dx_i = sum_{m: i(m) = i} dy_m",
    manual=index_select,
    native=torch.index_select,
    overrides=(torch.Tensor.index_select,),
    samples=_select_samples,
    refused=_refused,
)
INDEX_ADD = Spec(
    name="index_add",
    formula="y_i = x_i + sum_{m: i(m) = i} s_m",
    gradient="ds_m = dy_i(m),  dx = dy",
    manual=index_add,
    native=torch.index_add,
    overrides=(torch.Tensor.index_add,),
    inplace={torch.Tensor.index_add_: index_add_},
    samples=_add_samples,
)
INDEX_COPY = Spec(
    name="index_copy",
    formula="y_i(m) = s_m, else y_i = x_i",
    gradient="ds_m = dy_i(m),  dx_i = dy_i, but 0 at all i(m)",
    manual=index_copy,
    native=torch.index_copy,
    overrides=(torch.Tensor.index_copy,),
    inplace={torch.Tensor.index_copy_: index_copy_},
    samples=_copy_samples,
)
INDEX_FILL = Spec(
    name="index_fill",
    formula="y_i(m) = v, else y_i = x_i",
    gradient="dv = sum_m dy_i(m),  dx_i = dy_i, but 0 at all i(m)",
    manual=index_fill,
    native=torch.index_fill,
    overrides=(torch.Tensor.index_fill,),
    inplace={torch.Tensor.index_fill_: index_fill_},
    samples=_fill_samples,
)
