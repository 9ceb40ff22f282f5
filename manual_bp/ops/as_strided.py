r"""A tensor as it lies in memory, read in another way: as_strided.

Indices: ``i`` element of ``x``, ``m`` of the view, each at a place in memory: the offset plus the
sum of its indices, each times the stride of its axis. Two elements may share a place. Forward::

    y_m = what is at the place of m

Backward: blame is counted place by place, and where n_i elements of ``x`` share one, divided::

    dL/dx_i = 1/n_i  sum of dL/dy_m over the m at the place of i

Its counterpart ``as_strided_scatter`` is left to autograd. Torch 2.13's gradient for it is wrong:
it keeps what was replaced and drops the rest, which gradcheck refuses. One that is right could not
be equal to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clone import clone
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of

Geometry = tuple[Sequence[int], Sequence[int], int]


def _places(size: Sequence[int], stride: Sequence[int], offset: int, device: Any) -> Tensor:
    """The place in memory of each element."""
    places = torch.full((), offset, device=device)
    for n, step in zip(size, stride, strict=True):
        places = places.unsqueeze(-1) + torch.arange(n, device=device) * step
    return places


def _end(size: Sequence[int], stride: Sequence[int], offset: int) -> int:
    """One behind the last place; no number of elements reaches as far."""
    if 0 in size:
        return 0
    return offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1


def _summed(grad: Tensor, own: Geometry, other: Geometry) -> Tensor:
    """``grad`` of the geometry ``own``, added up place by place and read by ``other``."""
    memory = grad.new_zeros(max(_end(*own), _end(*other)))
    memory = memory.index_add(0, _places(*own, grad.device).reshape(-1), grad.reshape(-1))
    return memory[_places(*other, grad.device)]


class AsStridedFunction(Function):
    """``arguments``: sizes, strides, and the offset or None."""

    generate_vmap_rule = False  # where a tensor lies is not told of one that is batched

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: Any) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, size, stride, offset = inputs
        start = x.storage_offset()
        ctx.x = x.shape, x.stride(), start
        ctx.y = tuple(size), tuple(stride), start if offset is None else offset

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = _summed(grad_y, ctx.y, ctx.x)
        shared = _summed(torch.ones(ctx.x[0], device=grad_y.device), ctx.x, ctx.x)
        return grad_x / shared.to(grad_x.real.dtype), None, None, None, None


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """The memory of ``input`` read by other strides; as ``torch.as_strided``.

    Args:
        input: any shape
        size: of the view
        stride: how far from one element to the next in memory, for each axis
        storage_offset: where the view starts; None for where ``input`` does

    Returns:
        A view; not differentiable with respect to what else of the memory it may see. Compiled, it
        is left to autograd.

    Raises:
        RuntimeError: From torch, where the view would reach beyond the memory.
    """
    if torch.compiler.is_compiling():  # where there is no memory to look at
        return torch.as_strided(input, size, stride, storage_offset)
    return view_of(AsStridedFunction, input, "as_strided", size, stride, storage_offset)


def as_strided_copy(
    input: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """``as_strided`` in memory of its own; as ``torch.as_strided_copy``."""
    y = as_strided(input, size, stride, storage_offset)
    return clone(y, memory_format=torch.contiguous_format)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (2, 2), (3, 2), 1)
    yield sample(draw(6), (4, 3), (1, 1), label="overlapping")
    yield sample(draw(4, 3), (3,), (0,), label="one place")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (20,), (1,), label="beyond the memory")


SPEC = Spec(
    name="as_strided",
    formula="y_m = what is at the place of m",
    gradient="dx_i = sum of dy_m over the m at the place of i",
    manual=as_strided,
    native=torch.as_strided,
    overrides=(torch.Tensor.as_strided,),
    inplace={torch.as_strided_copy: as_strided_copy},
    samples=_samples,
    refused=_refused,
    vmap=False,
    compiles=False,
)
