r"""A diagonal of matrices, read or written: diagonal, diag_embed, and diag, which does either.

Forward, with d the diagonal: 0 for the main one, above it positive::

    diagonal      y_i = x_i(i+d)
    diag_embed    y_i(i+d) = x_i,  else 0

Backward. Each is the other's: what was read is blamed where it stood, and what was not read is
not blamed::

    diagonal      dL/dx_i(i+d) = dL/dy_i,  else 0
    diag_embed    dL/dx_i = dL/dy_i(i+d)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clone import clone
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


class DiagonalFunction(Function):
    """``arguments``: offset and the two axes that span the matrices."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: int) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, *ctx.arguments = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        zeros = grad_y.new_zeros(ctx.shape)
        return zeros.diagonal_scatter(grad_y, *ctx.arguments), None, None, None, None


class DiagEmbedFunction(Function):
    """``offset``, ``dim1``, ``dim2``: the diagonal, and the two axes that span the matrices."""

    @staticmethod
    def forward(x: Tensor, offset: int, dim1: int, dim2: int) -> Tensor:
        return torch.diag_embed(x, offset, dim1, dim2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *ctx.arguments = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.diagonal(*ctx.arguments), None, None, None


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A diagonal of the matrices that two axes span; as ``torch.diagonal``.

    Args:
        input: at least two axes
        offset: 0 for the main diagonal, above it positive
        dim1: axis of rows
        dim2: axis of columns
    """
    return view_of(DiagonalFunction, input, "diagonal", offset, dim1, dim2)


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """``diagonal`` of the last two axes; as ``torch.linalg.diagonal``."""
    return view_of(DiagonalFunction, A, "diagonal", offset, dim1, dim2)


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with ``input`` on a diagonal, 0 elsewhere; as ``torch.diag_embed``."""
    return DiagEmbedFunction.apply(input, offset, dim1, dim2)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or a matrix with that diagonal; as ``torch.diag``."""
    if input.dim() == 1:
        return DiagEmbedFunction.apply(input, diagonal, 0, 1)
    y = view_of(DiagonalFunction, input, "diagonal", diagonal, 0, 1)
    return clone(y, memory_format=torch.contiguous_format)


def _diagonal_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 3, 4), 1, -1, 0, label="above, axes")


def _linalg_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3))


def _embed_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), -1, 0, 2, label="below, axes")


def _diag_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -1)
    yield sample(draw(3), 1, label="a vector")


DIAGONAL = Spec(
    name="diagonal",
    formula="y_i = x_i(i+d)",
    gradient="dx_i(i+d) = dy_i, else 0",
    manual=diagonal,
    native=torch.diagonal,
    overrides=(torch.Tensor.diagonal,),
    samples=_diagonal_samples,
)
LINALG_DIAGONAL = Spec(
    name="linalg_diagonal",
    formula="y_i = x_i(i+d)",
    gradient="dx_i(i+d) = dy_i, else 0",
    manual=linalg_diagonal,
    native=torch.linalg.diagonal,
    samples=_linalg_samples,
)
DIAG_EMBED = Spec(
    name="diag_embed",
    formula="y_i(i+d) = x_i, else 0",
    gradient="dx_i = dy_i(i+d)",
    manual=diag_embed,
    native=torch.diag_embed,
    overrides=(torch.Tensor.diag_embed,),
    samples=_embed_samples,
)
DIAG = Spec(
    name="diag",
    formula="y_i = x_i(i+d), or back",
    gradient="dx_i(i+d) = dy_i, or back",
    manual=diag,
    native=torch.diag,
    overrides=(torch.Tensor.diag,),
    samples=_diag_samples,
)
