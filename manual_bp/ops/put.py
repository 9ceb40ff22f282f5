r"""Write at places that tensors of integers name: index_put, put; take reads there.

Forward. The m-th value ``v_m`` goes to the place i(m): instead of what is there, or on top of it
(``accumulate``)::

    y_i(m) = v_m,  else y_i = x_i            y_i = x_i + sum_{m: i(m) = i} v_m

Backward: what was written over is not blamed; a value is, by what became of its place::

    dL/dv_m = dL/dy_i(m)
    dL/dx_i = dL/dy_i, but 0 at all i(m)     dL/dx = dL/dy

``put`` counts the places of the flattened tensor. ``take`` reads from it, which is indexing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import Function, nothing_to_do
from manual_bp.ops.expand import kind, reduced
from manual_bp.ops.getitem import getitem
from manual_bp.ops.view import reshape
from manual_bp.ops.where import masked_fill
from manual_bp.spec import Draw, Sample, Spec, sample


class IndexPutFunction(Function):
    """``x``: any shape; ``values``: a shape that broadcasts to ``x[index]``."""

    @staticmethod
    def forward(x: Tensor, values: Tensor, accumulate: bool, *index: Tensor | None) -> Tensor:
        return torch.ops.aten.index_put(x, index, values, accumulate)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, values, ctx.accumulate, *index = inputs
        ctx.values, ctx.others = kind(values), len(index)
        ctx.save_for_backward(*index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        index = ctx.saved_tensors
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y
            if not ctx.accumulate:
                grad_x = torch.ops.aten.index_put(grad_y, index, grad_y.new_zeros(()))
        if ctx.needs_input_grad[1]:
            read = torch.ops.aten.index(grad_y, index)
            shape, dtype = ctx.values
            lacking = max(len(shape) - read.dim(), 0)  # axes of 1 in front
            grad_values = reduced(read, shape[lacking:], dtype).reshape(shape)
        return grad_x, grad_values, None, *[None] * ctx.others


class PutFunction(Function):
    """``x``, ``index``, ``values``: any shapes, the last two of as many elements."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, values: Tensor, accumulate: bool) -> Tensor:
        places = (index.reshape(-1),)
        return x.reshape(-1).index_put(places, values.reshape(-1), accumulate).view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, index, values, ctx.accumulate = inputs
        ctx.values_shape = values.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        places, flat = (index.reshape(-1),), grad_y.reshape(-1)
        grad_x = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y
            if not ctx.accumulate:
                grad_x = flat.index_put(places, flat.new_zeros(())).view(grad_y.shape)
        if ctx.needs_input_grad[2]:
            grad_values = flat[places].view(ctx.values_shape)
        return grad_x, None, grad_values, None


def index_put(
    input: Tensor, indices: Any, values: Tensor, accumulate: bool = False, unsafe: bool = False
) -> Tensor:
    """``input`` with ``values`` written at ``indices``; as ``torch.index_put``.

    Args:
        input: any shape
        indices: a tensor of integers or booleans for each axis from the front
        values: a shape that broadcasts to ``input[indices]``
        accumulate: add to what is there, where places repeat several times
        unsafe: without meaning for the result

    Returns:
        The shape of ``input``.

    Raises:
        IndexError: From torch, where places do not exist or shapes do not fit.
    """
    del unsafe
    return IndexPutFunction.apply(input, values, accumulate, *indices)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``input`` with ``source`` written at places of the flattened tensor; as ``torch.put``.

    Args:
        input: any shape
        index: int64, any shape
        source: as many elements
        accumulate: add to what is there

    Raises:
        RuntimeError: From torch, where the number of elements or the dtype differs.
    """
    if index.numel() != source.numel() or input.dtype != source.dtype or _beyond(input, index):
        return torch.put(input, index, source, accumulate)  # which says what is wrong
    return PutFunction.apply(input, index, source, accumulate)


def _beyond(input: Tensor, index: Tensor) -> bool:
    """Whether places are asked for where there are none."""
    return input.numel() == 0 and index.numel() > 0


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened tensor at ``index``; as ``torch.take``.

    Args:
        input: any shape
        index: int64, any shape

    Returns:
        The shape of ``index``.

    Raises:
        IndexError: From torch, where there is no such element.
    """
    if nothing_to_do(input) or index.dtype != torch.int64 or _beyond(input, index):
        return torch.take(input, index)
    return getitem(reshape(input, -1), index)


def _inside(input: Tensor, indices: Any) -> list[Tensor | None]:
    """The places, moved into the tensor where they lie outside."""
    return [
        None if i is None else i.clamp(-size, size - 1)
        for i, size in zip(indices, input.shape, strict=False)
    ]


def _masked_index(input: Tensor, mask: Tensor, indices: Any, fill: float) -> Tensor:
    """``input[indices]`` where ``mask``, else ``fill``, whatever the places are there."""
    if input.numel() == 0:
        return torch._unsafe_masked_index(input, mask, indices, fill)
    index = tuple(slice(None) if i is None else i for i in _inside(input, indices))
    return masked_fill(getitem(input, index), mask.logical_not(), fill)


def _masked_index_put(input: Tensor, mask: Tensor, indices: Any, values: Tensor) -> Tensor:
    """``values`` added at ``indices`` where ``mask``, whatever the places are elsewhere."""
    if input.numel() == 0:
        return torch._unsafe_masked_index_put_accumulate(input, mask, indices, values)
    values = masked_fill(values, mask.logical_not(), 0.0)
    return IndexPutFunction.apply(input, values, True, *_inside(input, indices))


def _samples(draw: Draw) -> Iterator[Sample]:
    pairs = (draw.integers(4, 2, 5), draw.integers(3, 5))
    yield sample(draw(4, 3), pairs, draw(2, 5), True)
    yield sample(draw(4, 3), (torch.tensor([2, 0], device=draw.device),), draw(3), label="over")
    mask = torch.tensor([True, False, True, True], device=draw.device)
    yield sample(draw(4, 3), (mask,), draw(3, 1), label="mask")


def _put_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.integers(12, 2, 3) - 12, draw(2, 3), True)
    places = torch.tensor([5, 0], device=draw.device)
    yield sample(draw(4, 3), places, draw(2), label="over")


def _take_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.integers(12, 2, 4))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (torch.tensor([4]),), draw(3), label="no such place")


def _put_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.integers(4, 2), draw(3), label="numbers differ")


_OVER = "dv_m = dy_i(m),  dx_i = dy_i, but 0 at all i(m)"

INDEX_PUT = Spec(
    name="index_put",
    formula="y_i(m) = v_m, else y_i = x_i",
    gradient=_OVER,
    manual=index_put,
    native=torch.index_put,
    overrides=(torch.Tensor.index_put,),
    inplace={
        torch.index_put_: in_place(index_put),
        torch.Tensor.index_put_: in_place(index_put),
        torch._unsafe_masked_index: _masked_index,
        torch._unsafe_masked_index_put_accumulate: _masked_index_put,
    },
    samples=_samples,
    refused=_refused,
)
PUT = Spec(
    name="put",
    formula="y_i(m) = v_m, else y_i = x_i",
    gradient=_OVER,
    manual=put,
    native=torch.put,
    overrides=(torch.Tensor.put,),
    inplace={torch.Tensor.put_: in_place(put)},
    samples=_put_samples,
    refused=_put_refused,
)
TAKE = Spec(
    name="take",
    formula="y_m = x_i(m)",
    gradient="dx_i = sum_{m: i(m) = i} dy_m",
    manual=take,
    native=torch.take,
    overrides=(torch.Tensor.take,),
    samples=_take_samples,
)
