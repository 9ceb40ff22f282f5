r"""Rows, columns and blocks out of several tensors: hstack, vstack, atleast_2d, block_diag.

A row of tensors is a view with axes of size 1 where they lack, and a cat, both of which are by
hand already, and so its gradient is, too::

    hstack, vstack, dstack      cat along axis 1 (vectors: 0), 0, 2
    column_stack                vectors as columns, then hstack

``block_diag`` is one operation. Forward and backward, with block k at rows R_k and columns C_k::

    y[R_k, C_k] = x_k, else 0
    dL/dx_k = dL/dy[R_k, C_k]           the zeros around the blocks depend on nothing
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.cat import cat
from manual_bp.ops.expand import reduced
from manual_bp.ops.view import view
from manual_bp.spec import Draw, Sample, Spec, sample


class BlockDiagFunction(Function):
    """``blocks``: matrices; vectors count as rows, numbers as matrices of one."""

    @staticmethod
    def forward(*blocks: Tensor) -> Tensor:
        return torch.block_diag(*blocks)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kinds = [(block.shape, block.dtype) for block in inputs]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grads: list[Tensor | None] = []
        row = column = 0
        for wanted, (shape, dtype) in zip(ctx.needs_input_grad, ctx.kinds, strict=True):
            rows, columns = (1, 1, *shape)[-2:]
            if wanted:
                block = grad_y.narrow(-2, row, rows).narrow(-1, column, columns)
                # Memory of its own: a row of grad_y would be accumulated into.
                grads.append(reduced(block.reshape(shape).clone(), shape, dtype))
            else:
                grads.append(None)
            row, column = row + rows, column + columns
        return tuple(grads)


def _given(tensors: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Tensors that were given one by one, or as one list."""
    return (
        tuple(tensors[0]) if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    )


def _with_axes(x: Tensor, axes: int) -> Tensor:
    """At least so many axes: (N) becomes (1, N) and (1, N, 1); (M, N) becomes (M, N, 1)."""
    if x.dim() >= axes:
        return x
    in_front = 1 if axes > 1 and x.dim() < 2 else 0
    shape = [1] * in_front + list(x.shape)
    return view(x, shape + [1] * (axes - len(shape)))


def _atleast(axes: int, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return _with_axes(tensors[0], axes)
    return tuple(_with_axes(x, axes) for x in _given(tensors))


def atleast_1d(*tensors: Any) -> Any:
    """Each tensor with an axis if it has none; as ``torch.atleast_1d``.

    Args:
        tensors: any shapes; or one list of them

    Returns:
        A tensor for a tensor, else a tuple.
    """
    return _atleast(1, tensors)


def atleast_2d(*tensors: Any) -> Any:
    """Each tensor with two axes at least; as ``torch.atleast_2d``."""
    return _atleast(2, tensors)


def atleast_3d(*tensors: Any) -> Any:
    """Each tensor with three axes at least; as ``torch.atleast_3d``."""
    return _atleast(3, tensors)


def hstack(tensors: Any) -> Tensor:
    """The tensors side by side along their second axis, vectors end to end; as ``torch.hstack``.

    Args:
        tensors: shapes that are equal but along that axis

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    if len(tensors) == 0:
        return torch.hstack(tensors)  # which says what is wrong
    parts = [_with_axes(x, 1) for x in tensors]
    return cat(parts, 0 if parts[0].dim() == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """The tensors below each other, a vector as a row; as ``torch.vstack``."""
    if len(tensors) == 0:
        return torch.vstack(tensors)  # likewise
    return cat([_with_axes(x, 2) for x in tensors], 0)


def dstack(tensors: Any) -> Tensor:
    """The tensors behind each other, along the third axis; as ``torch.dstack``."""
    if len(tensors) == 0:
        return torch.dstack(tensors)  # likewise
    return cat([_with_axes(x, 3) for x in tensors], 2)


def column_stack(tensors: Any) -> Tensor:
    """The tensors side by side, a vector as a column; as ``torch.column_stack``."""
    if len(tensors) == 0:
        return torch.column_stack(tensors)  # likewise
    return hstack([view(x, -1, 1) if x.dim() < 2 else x for x in tensors])


def block_diag(*tensors: Tensor) -> Tensor:
    """One matrix with the tensors along its diagonal, 0 elsewhere; as ``torch.block_diag``.

    Args:
        tensors: (M_k, N_k), (N_k), counted as (1, N_k), or without axes

    Returns:
        (sum of M_k, sum of N_k)

    Raises:
        RuntimeError: From torch, for a tensor of more axes.
    """
    return BlockDiagFunction.apply(*_given(tensors))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(4, 2)])
    yield sample((draw(4), draw(), draw(2)), label="vectors")


def _block_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), draw(2), draw(), draw(3, 0), draw.fixed(1, 2))


def _block_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 1), label="three axes")


def _atleast_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), draw(4, 2), draw())
    yield sample(draw(3), label="one")


HSTACK = Spec(
    name="hstack",
    formula="y = [x_1, x_2, ...]",
    gradient="dx_k = the piece of dy where x_k was put",
    manual=hstack,
    native=torch.hstack,
    inplace={
        torch.vstack: vstack,
        torch.row_stack: vstack,
        torch.dstack: dstack,
        torch.column_stack: column_stack,
    },
    samples=_samples,
)
ATLEAST_3D = Spec(
    name="atleast_3d",
    formula="y holds the numbers of x in their order",
    gradient="dx = dy in the shape of x",
    manual=atleast_3d,
    native=torch.atleast_3d,
    inplace={torch.atleast_1d: atleast_1d, torch.atleast_2d: atleast_2d},
    samples=_atleast_samples,
)
BLOCK_DIAG = Spec(
    name="block_diag",
    formula="y[R_k, C_k] = x_k, else 0",
    gradient="dx_k = dy[R_k, C_k]",
    manual=block_diag,
    native=torch.block_diag,
    samples=_block_samples,
    refused=_block_refused,
)
