r"""Indexing: ``y = x[index]`` reads some elements of ``x``, ``x[index] = y`` writes them.

The index may hold integers, slices, ``...``, ``None``, tensors of integers or booleans. With
i(m) the place in ``x`` that the m-th element is read from, or written to::

    y_m = x_i(m)                          x_i(m) := y_m

Backward. An element that was read several times is blamed several times; one that was written
has lost its own past::

    dL/dx_i = sum_{m: i(m) = i} dL/dy_m   dL/dy_m = dL/dx_i(m)
                                          dL/dx_i(before) = 0 at all i(m), else dL/dx_i(after)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, nothing_to_do
from manual_bp.ops.copy import batch_first
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import open_to_changes

_EVERYTHING = slice(None)


def _without_tensors(index: tuple[Any, ...]) -> tuple[list[Any], list[Tensor]]:
    """The index with a gap for each of its tensors, and these: they have to be saved."""
    return [_Gap if isinstance(i, Tensor) else i for i in index], [
        i for i in index if isinstance(i, Tensor)
    ]


class _Gap:
    """Stands for a tensor in an index."""


def _whole(parts: list[Any], tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    remaining = iter(tensors)
    return tuple(next(remaining) if part is _Gap else part for part in parts)


def _added_at(index: tuple[Any, ...], grad_y: Tensor, shape: torch.Size) -> Tensor:
    """Zeros of ``shape``, to which ``grad_y`` is added at ``index``."""
    grad_x = grad_y.new_zeros(shape)
    if all(not isinstance(i, (Tensor, list)) for i in index):  # no element is read twice
        grad_x[index] = grad_y
    elif all(i.dim() > 0 if isinstance(i, Tensor) else i == _EVERYTHING for i in index):
        tensors = [i if isinstance(i, Tensor) else None for i in index]
        grad_x = torch.ops.aten.index_put(grad_x, tensors, grad_y, True)
    else:
        places = torch.arange(shape.numel(), device=grad_y.device).view(shape)[index]
        grad_x = grad_x.flatten().index_add(0, places.flatten(), grad_y.flatten()).view(shape)
    return grad_x


def _one_an_axis(
    index: tuple[Any, ...], shape: torch.Size, device: torch.device
) -> tuple[Any, ...]:
    """An index with tensors as one integer tensor for each axis; others as they are.

    Where torch puts the axes of several tensors depends on what lies between them, and with an
    axis of examples in front it may be elsewhere.
    """
    if not any(isinstance(i, (Tensor, list)) for i in index):
        return index
    places = torch.arange(shape.numel(), device=device).view(shape)[index]
    return torch.unravel_index(places, shape)


class GetItemFunction(Function):
    """``x``: any shape; ``index``: the parts of the index."""

    @staticmethod
    def forward(x: Tensor, *index: Any) -> Tensor:
        return x[index]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *index = inputs
        ctx.shape, ctx.others = x.shape, len(index)
        ctx.parts, tensors = _without_tensors(tuple(index))
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        index = _whole(ctx.parts, ctx.saved_tensors)
        return _added_at(index, grad_y, ctx.shape), *[None] * ctx.others


class SetItemFunction(Function):
    """``x``: any shape; ``y``: a tensor that broadcasts to ``x[index]``, or a number."""

    generate_vmap_rule = False  # none can be generated for what modifies its argument

    @staticmethod
    def forward(x: Tensor, y: Tensor | float, *index: Any) -> Tensor:
        x[index] = y
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, *index = inputs
        ctx.mark_dirty(x)
        ctx.y = (y.shape, y.dtype) if isinstance(y, Tensor) else None
        ctx.parts, tensors = _without_tensors(tuple(index))
        ctx.others = len(index)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        index = _whole(ctx.parts, ctx.saved_tensors)
        if torch._C._are_functorch_transforms_active():
            index = _one_an_axis(index, grad.shape, grad.device)
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = grad.clone()
            grad_x[index] = 0
        if ctx.needs_input_grad[1]:
            shape, dtype = ctx.y
            grad_y = grad[index].clone()  # a slice would be the memory of what came in
            # y may have axes of size 1 in front that x[index] lacks.
            lacking = max(len(shape) - grad_y.dim(), 0)
            grad_y = grad_y.sum_to_size(shape[lacking:]).view(shape).to(dtype)
        return grad_x, grad_y, *[None] * ctx.others

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, y: Tensor | float, *index: Any
    ) -> tuple[Any, ...]:
        """Write into every example: the same elements of each, one more axis in front."""
        first = batch_first(x, in_dims[0], "x[index] = y")
        if any(isinstance(dim, int) for dim in in_dims[2:]):
            raise RuntimeError("vmap: in x[index] = y the index must be the same for all examples")
        index = _one_an_axis(index, first.shape[1:], x.device)
        if in_dims[1] is not None:
            y = y.movedim(in_dims[1], 0)  # type: ignore[union-attr]
            axes = first[(_EVERYTHING, *index)].dim() - 1
            # y may have fewer axes than x[index], or axes of size 1 in front that it lacks.
            own = y.shape[1:][max(y.dim() - 1 - axes, 0) :]
            y = y.reshape(y.shape[0], *[1] * (axes - len(own)), *own)
        SetItemFunction.apply(first, y, _EVERYTHING, *index)
        return x, in_dims[0]


_PARTS = (int, slice, type(None), type(...), Tensor, torch.SymInt)


def _parts(index: Any) -> tuple[Any, ...] | None:
    """The parts of an index; None where it holds what is left to autograd (nested lists)."""
    parts = index if isinstance(index, tuple) else (index,)
    known = all(
        isinstance(part, _PARTS)
        or (isinstance(part, list) and all(isinstance(i, int) for i in part))
        for part in parts
    )
    return parts if known else None


def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[index]`` with its gradient by hand; as ``Tensor.__getitem__``.

    Args:
        input: any shape
        index: integers, slices, ``...``, ``None``, tensors or lists of integers or booleans

    Returns:
        A view without tensors and lists in the index, or else a copy.

    Raises:
        IndexError: From torch, where there is no such axis or element.
    """
    parts = _parts(index)
    if parts is None or nothing_to_do(input):
        return torch.Tensor.__getitem__(input, index)
    return open_to_changes(GetItemFunction.apply(input, *parts))


def setitem(input: Tensor, index: Any, value: Any) -> Tensor:
    """``input[index] = value`` with its gradients by hand; as ``Tensor.__setitem__``.

    Args:
        input: any shape; modified
        index: as for :func:`getitem`
        value: a shape that broadcasts to ``input[index]``, or a number

    Returns:
        ``input``.

    Raises:
        RuntimeError: Where torch refuses the same: ``input`` is a leaf that requires a gradient.
    """
    parts = _parts(index)
    if parts is None or nothing_to_do(input, value):
        torch.Tensor.__setitem__(input, index, value)
        return input
    return SetItemFunction.apply(input, value, *parts)


def _set(input: Tensor, index: Any, value: Any) -> Tensor:
    """What ``setitem`` mirrors, as an expression."""
    input[index] = value
    return input


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1)
    yield sample(draw(4, 6, 3), (..., slice(None, None, 2), None, -1), label="slices")
    yield sample(draw(4, 3), draw.integers(4, 7), label="repeated")
    yield sample(draw(4, 3, 2), (slice(None), draw.integers(3, 2, 5)), label="second axis")
    yield sample(draw(4, 3), (draw.integers(4, 5), draw.integers(3, 5)), label="pairs")
    yield sample(draw(4, 3), torch.tensor([True, False, True, True]), label="mask")
    mixed = (slice(1, None), draw.integers(3, 5), None, -1)
    yield sample(draw(4, 3, 2), mixed, label="mixed")
    yield sample(draw(4, 3), [2, 0, 2], label="a list")
    yield sample(draw(4, 3), draw.integers(4, 0), label="nothing")


def _set_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, draw(3))
    yield sample(draw(4, 6, 3), (..., slice(None, None, 2), -1), draw(1, 1, 1, 3), label="slices")
    yield sample(draw(4, 3), torch.tensor([2, 0]), draw(3), label="integers")
    yield sample(draw(4, 3), torch.tensor([True, False, True, True]), draw(3, 1), label="mask")
    yield sample(draw(4, 3), slice(1, 3), 2.0, label="a number")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 4, label="no such element")
    yield sample(draw(4, 3), (0, 0, 0), label="too many")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), slice(0, 32))
    yield sample(draw(1024, 2048), draw.integers(1024, 1024))


GETITEM = Spec(
    name="getitem",
    formula="y_m = x_i(m)",
    gradient="dx_i = sum_{m: i(m) = i} dy_m",
    manual=getitem,
    native=torch.Tensor.__getitem__,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
SETITEM = Spec(
    name="setitem",
    formula="x_i(m) := y_m",
    gradient="dy_m = dx_i(m),  dx = 0 at all i(m)",
    manual=setitem,
    native=_set,
    overrides=(torch.Tensor.__setitem__,),
    samples=_set_samples,
    modifies=True,
)
