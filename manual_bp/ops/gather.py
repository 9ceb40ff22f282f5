r"""Read and write at places that a tensor of integers names: gather, scatter and their like.

Forward. ``gather`` reads x at i(m), ``scatter`` writes s_m there, ``scatter_add`` adds it up, and
the rest of ``x`` stays as it is::

    y_m = x_i(m)            y_i(m) = s_m            y_i = x_i + sum_{m: i(m) = i} s_m

Backward. Reading and adding up are each other's backward; what was written over is not blamed::

    gather        dL/dx_i = sum_{m: i(m) = i} dL/dy_m
    scatter       dL/dx_i = dL/dy_i, but 0 at all i(m)          dL/ds_m = dL/dy_i(m)
    scatter_add   dL/dx = dL/dy                                 dL/ds_m = dL/dy_i(m)

Where places repeat, ``scatter`` lets one of the writers win
and does not say which; like PyTorch's, its gradient then blames them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.copy import copy_
from manual_bp.ops.expand import expand
from manual_bp.ops.view import reshape
from manual_bp.spec import Draw, Sample, Spec, sample


class GatherFunction(Function):
    """``x``: any shape; ``index``: as many axes; ``dim``: the axis along which it holds."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor) -> Tensor:
        return torch.gather(x, dim, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, index = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return grad_y.new_zeros(ctx.shape).scatter_add(ctx.dim, index, grad_y), None, None


class ScatterFunction(Function):
    """``x``: any shape; ``index``, ``source``: as many axes; ``source`` may be a number."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor, source: Tensor | float) -> Tensor:
        return torch.scatter(x, dim, index, source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, _ = inputs
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        grad_x = grad_source = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y.scatter(ctx.dim, index, 0)
        if ctx.needs_input_grad[3]:
            grad_source = grad_y.gather(ctx.dim, index)
        return grad_x, None, None, grad_source


class ScatterAddFunction(Function):
    """``x``: any shape; ``index``, ``source``: as many axes."""

    @staticmethod
    def forward(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
        return torch.scatter_add(x, dim, index, source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dim, index, _ = inputs
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        grad_source = None
        if ctx.needs_input_grad[3]:
            grad_source = grad_y.gather(ctx.dim, index)
        return grad_y, None, None, grad_source


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The elements of ``input`` at ``index`` along ``dim``; as ``torch.gather``.

    Args:
        input: any shape
        dim: an axis
        index: int64, as many axes
        sparse_grad: left to autograd where True

    Returns:
        The shape of ``index``.

    Raises:
        RuntimeError: From torch, where the index does not fit.
    """
    if sparse_grad:
        return torch.gather(input, dim, index, sparse_grad=True)
    return GatherFunction.apply(input, dim, index)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """The elements at ``indices`` along ``dim``, which broadcast; as ``torch.take_along_dim``."""
    if dim is None:
        return GatherFunction.apply(reshape(input, -1), 0, indices.reshape(-1))
    if input.dim() != indices.dim():
        return torch.take_along_dim(input, indices, dim)  # which says what is wrong
    indices = indices.remainder(input.shape[dim])  # torch counts them round and round
    shape = list(torch.broadcast_shapes(_but(input, dim), _but(indices, dim)))
    shape[dim] = input.shape[dim]
    input = expand(input, shape)
    shape[dim] = indices.shape[dim]
    return GatherFunction.apply(input, dim, indices.expand(shape))


def _but(x: Tensor, dim: int) -> list[int]:
    """The shape, with 1 along ``dim``."""
    shape = list(x.shape)
    shape[dim] = 1
    return shape


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """``input`` with ``src`` written at ``index`` along ``dim``; as ``torch.scatter``.

    Args:
        input: any shape
        dim: an axis
        index: int64, as many axes
        src: the shape of ``index``; or a number
        value: a number, instead of ``src``
        reduce: "add" or "multiply", left to autograd, which has no gradient for it

    Returns:
        The shape of ``input``.

    Raises:
        RuntimeError: From torch, where shapes or places do not fit.
    """
    source: Any = value if src is None else src
    if reduce is not None:
        return torch.scatter(input, dim, index, source, reduce=reduce)
    return ScatterFunction.apply(input, dim, index, source)


def scatter_(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """``scatter`` in place; as ``Tensor.scatter_``."""
    return copy_(input, scatter(input, dim, index, src, value=value, reduce=reduce))


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with ``src`` added at ``index`` along ``dim``; as ``torch.scatter_add``.

    Args:
        input: any shape
        dim: an axis
        index: int64, as many axes
        src: the shape of ``index``

    Returns:
        The shape of ``input``.

    Raises:
        RuntimeError: From torch, where shapes or places do not fit.
    """
    return ScatterAddFunction.apply(input, dim, index, src)


def scatter_add_(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``scatter_add`` in place; as ``Tensor.scatter_add_``."""
    return copy_(input, scatter_add(input, dim, index, src))


def _gather_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, draw.integers(4, 6, 2))
    yield sample(draw(4, 3), -1, draw.integers(3, 4, 5), label="last axis, repeated")


def _take_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.integers(4, 2, 1), 0, label="broadcast")
    yield sample(draw(4, 3), draw.integers(12, 5), label="of all")
    yield sample(draw(4, 3), draw.integers(4, 2, 3) - 4, 0, label="from the end")


def _scatter_samples(draw: Draw) -> Iterator[Sample]:
    places = torch.tensor([[2, 0], [1, 3]])
    yield sample(draw(4, 3), 0, places, draw(2, 2))
    yield sample(draw(4, 3), 0, places, value=2.5, label="a number")


def _scatter_add_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, draw.integers(3, 4, 5), draw(4, 5))
    yield sample(draw(4, 3), 0, draw.integers(4, 5, 2), draw(5, 2), label="a part of the axis")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, draw.integers(3, 4), label="axes differ")


GATHER = Spec(
    name="gather",
    formula="y_m = x_i(m)",
    gradient="dx_i = sum_{m: i(m) = i} dy_m",
    manual=gather,
    native=torch.gather,
    overrides=(torch.Tensor.gather,),
    samples=_gather_samples,
    refused=_refused,
)
TAKE_ALONG_DIM = Spec(
    name="take_along_dim",
    formula="y_m = x_i(m)",
    gradient="dx_i = sum_{m: i(m) = i} dy_m",
    manual=take_along_dim,
    native=torch.take_along_dim,
    overrides=(torch.Tensor.take_along_dim,),
    samples=_take_samples,
)
SCATTER = Spec(
    name="scatter",
    formula="y_i(m) = s_m, else y_i = x_i",
    gradient="ds_m = dy_i(m),  dx_i = dy_i, but 0 at all i(m)",
    manual=scatter,
    native=torch.scatter,
    overrides=(torch.Tensor.scatter,),
    inplace={torch.Tensor.scatter_: scatter_},
    samples=_scatter_samples,
)
SCATTER_ADD = Spec(
    name="scatter_add",
    formula="y_i = x_i + sum_{m: i(m) = i} s_m",
    gradient="ds_m = dy_i(m),  dx = dy",
    manual=scatter_add,
    native=torch.scatter_add,
    overrides=(torch.Tensor.scatter_add,),
    inplace={torch.Tensor.scatter_add_: scatter_add_},
    samples=_scatter_add_samples,
)
