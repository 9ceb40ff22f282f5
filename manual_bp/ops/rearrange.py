r"""The same numbers in other places, or several times: flip, roll, repeat, tril, diagonal.

Forward, with i(m) the place that the m-th element of the result is taken from; none for a 0::

    y_m = x_i(m)

Backward: as everywhere, what was used is blamed, once for each use::

    dL/dx_i = sum_{m: i(m) = i} dL/dy_m

which for each of these operations is one of its own kind: flip and tril are their own backward,
roll rolls back, repeat sums over the repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.ops.index_select import index_select
from manual_bp.ops.view import flatten
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


class FlipFunction(Function):
    """``dims``: the axes whose order is turned round."""

    @staticmethod
    def forward(x: Tensor, dims: Any) -> Tensor:
        return torch.flip(x, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dims = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.flip(ctx.dims), None


class RollFunction(Function):
    """``shifts``, ``dims``: how far along which axes; no axes for the flattened tensor."""

    @staticmethod
    def forward(x: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
        return torch.roll(x, shifts, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.shifts, ctx.dims = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.roll([-shift for shift in ctx.shifts], ctx.dims), None, None


class RepeatFunction(Function):
    """``repeats``: how often along each axis; more of them than axes put new ones in front."""

    @staticmethod
    def forward(x: Tensor, repeats: list[int]) -> Tensor:
        return x.repeat(repeats)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.repeats = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        new = len(ctx.repeats) - len(ctx.shape)
        sizes = [*[1] * new, *ctx.shape]
        # An axis of R times S splits into R and S; the sum over every R is left with the S.
        split = [part for pair in zip(ctx.repeats, sizes, strict=True) for part in pair]
        if not split:
            return grad_y, None
        every_repetition = list(range(0, len(split), 2))
        return grad_y.reshape(split).sum(every_repetition).view(ctx.shape), None


class TriangleFunction(Function):
    """``method``: "tril" or "triu"; ``diagonal``: where the triangle ends."""

    @staticmethod
    def forward(x: Tensor, method: str, diagonal: int) -> Tensor:
        return getattr(torch, method)(x, diagonal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.method, ctx.diagonal = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return getattr(torch, ctx.method)(grad_y, ctx.diagonal), None, None


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


def flip(input: Tensor, *dims: Any, **named: Any) -> Tensor:
    """The order along ``dims`` turned round; as ``torch.flip``.

    Args:
        input: any shape
        dims: axes
        named: ``dims`` by its name

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    given = (*dims, *named.values())
    return FlipFunction.apply(input, _several(given))


def _several(given: tuple[Any, ...]) -> Any:
    """One list, or the integers as they were given one by one."""
    return given[0] if len(given) == 1 and not isinstance(given[0], int) else given


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Shifted along ``dims``, what falls off coming back at the other end; as ``torch.roll``.

    Args:
        input: any shape
        shifts: how far, one for each axis
        dims: axes; None for the flattened tensor
    """
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
    return RollFunction.apply(input, shifts, dims)


def repeat(input: Tensor, *repeats: Any, **named: Any) -> Tensor:
    """Laid side by side ``repeats`` times along each axis; as ``Tensor.repeat``.

    Args:
        input: any shape
        repeats: how often along each axis, with more in front for new axes
        named: ``repeats`` by its name

    Raises:
        RuntimeError: From torch, where there are fewer than axes.
    """
    times = _several((*repeats, *named.values()))
    return RepeatFunction.apply(input, list(times))


def tile(input: Tensor, *dims: Any) -> Tensor:
    """``repeat`` where missing axes count once; as ``torch.tile``."""
    times = list(_several(dims))
    return RepeatFunction.apply(input, [1] * (input.dim() - len(times)) + times)


def repeat_interleave(
    input: Tensor, repeats: int | Tensor, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element along ``dim`` repeated at once; as ``torch.repeat_interleave``.

    Args:
        input: any shape
        repeats: how often, one for all or one for each
        dim: an axis, or None for the flattened tensor
        output_size: the size along ``dim`` that comes out, where it is known
    """
    if dim is None:
        input, dim = flatten(input), 0
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = int(repeats)
    if isinstance(repeats, Tensor):
        places = torch.repeat_interleave(repeats, output_size=output_size)
    else:
        places = torch.arange(input.shape[dim], device=input.device).repeat_interleave(repeats)
    return index_select(input, dim, places)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle, 0 above it; as ``torch.tril``.

    Args:
        input: (..., I, J)
        diagonal: the last diagonal that is kept
    """
    return TriangleFunction.apply(input, "tril", diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle, 0 below it; as ``torch.triu``."""
    return TriangleFunction.apply(input, "triu", diagonal)


def tril_(input: Tensor, diagonal: int = 0) -> Tensor:
    """``tril`` in place; as ``Tensor.tril_``."""
    return copy_(input, tril(input, diagonal))


def triu_(input: Tensor, diagonal: int = 0) -> Tensor:
    """``triu`` in place; as ``Tensor.triu_``."""
    return copy_(input, triu(input, diagonal))


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


def _flip_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (0,))
    yield sample(draw(4, 3, 2), [0, -1], label="two axes")


def _roll_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, 0)
    yield sample(draw(4, 3), (1, -5), (-1, 0), label="two axes")
    yield sample(draw(4, 3), 2, label="flattened")


def _repeat_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 1, 3)
    yield sample(draw(4, 3), (1, 2), label="a tuple")
    yield sample(draw(), 3, label="no axis")


def _tile_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (2,))
    yield sample(draw(3), (2, 2), label="a new axis")


def _interleave_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2)
    yield sample(draw(4, 3), 3, -1, label="an axis")


def _triangle_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 3, 4), -1, label="another diagonal")


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


_FORMULA = "y_m = x_i(m)"
_GRADIENT = "dx_i = sum_{m: i(m) = i} dy_m"

FLIP = Spec(
    name="flip",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=flip,
    native=torch.flip,
    overrides=(torch.Tensor.flip,),
    samples=_flip_samples,
)
ROLL = Spec(
    name="roll",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=roll,
    native=torch.roll,
    overrides=(torch.Tensor.roll,),
    samples=_roll_samples,
)
REPEAT = Spec(
    name="repeat",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=repeat,
    native=torch.Tensor.repeat,
    samples=_repeat_samples,
)
TILE = Spec(
    name="tile",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=tile,
    native=torch.tile,
    overrides=(torch.Tensor.tile,),
    samples=_tile_samples,
)
REPEAT_INTERLEAVE = Spec(
    name="repeat_interleave",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=repeat_interleave,
    native=torch.repeat_interleave,
    overrides=(torch.Tensor.repeat_interleave,),
    samples=_interleave_samples,
)
TRIL = Spec(
    name="tril",
    formula="y_ij = x_ij where j <= i + d, else 0",
    gradient="dx_ij = dy_ij where j <= i + d, else 0",
    manual=tril,
    native=torch.tril,
    overrides=(torch.Tensor.tril,),
    inplace={torch.Tensor.tril_: tril_},
    samples=_triangle_samples,
)
TRIU = Spec(
    name="triu",
    formula="y_ij = x_ij where j >= i + d, else 0",
    gradient="dx_ij = dy_ij where j >= i + d, else 0",
    manual=triu,
    native=torch.triu,
    overrides=(torch.Tensor.triu,),
    inplace={torch.Tensor.triu_: triu_},
    samples=_triangle_samples,
)
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
