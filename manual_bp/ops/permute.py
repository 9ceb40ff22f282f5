r"""Axes in another order: transpose, permute, movedim and their like.

Forward, for an order p of the axes::

    y[i_p(0), i_p(1), ...] = x[i_0, i_1, ...]

Backward: the same numbers are read back in the inverse order, q with q(p(k)) = k::

    dL/dx = dL/dy with its axes in the order q

A transposition is its own inverse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.view import ReshapeFunction
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


class TransposeFunction(Function):
    """``arguments``: the two axes that change places."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: int) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, ctx.dim0, ctx.dim1 = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.transpose(ctx.dim0, ctx.dim1), None, None, None


class PermuteFunction(Function):
    """``order``: the axes of ``x`` in their new order."""

    @staticmethod
    def forward(x: Tensor, method: str, order: tuple[int, ...]) -> Tensor:
        return getattr(x, method)(order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, ctx.order = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        axes = len(ctx.order)
        inverse = [0] * axes
        for place, axis in enumerate(ctx.order):
            inverse[axis % axes] = place
        return grad_y.permute(inverse), None, None


class MovedimFunction(Function):
    """``arguments``: the axes that move, and where they go."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: Any) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, ctx.source, ctx.destination = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.movedim(ctx.destination, ctx.source), None, None, None


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged; as ``torch.transpose``.

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return view_of(TransposeFunction, input, "transpose", dim0, dim1)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two axes exchanged; as ``torch.swapaxes``."""
    return view_of(TransposeFunction, input, "transpose", axis0, axis1)


def t(input: Tensor) -> Tensor:
    """A matrix transposed; what has fewer axes as it is; as ``torch.t``.

    Raises:
        RuntimeError: From torch, where there are more than two axes.
    """
    if input.dim() != 2:
        return view_of(ReshapeFunction, input, "t")
    return view_of(TransposeFunction, input, "transpose", 0, 1)


def T(input: Tensor) -> Tensor:
    """All axes in reverse order; as ``Tensor.T``."""
    return view_of(PermuteFunction, input, "permute", tuple(range(input.dim() - 1, -1, -1)))


def mT(input: Tensor) -> Tensor:
    """The last two axes exchanged; as ``Tensor.mT``."""
    if input.dim() < 2:
        return input.mT
    return view_of(TransposeFunction, input, "transpose", -2, -1)


def permute(input: Tensor, *dims: Any, **named: Any) -> Tensor:
    """The axes in the order ``dims``; as ``torch.permute``.

    Args:
        input: any shape
        dims: the axes of ``input``, each once
        named: ``dims`` by its name

    Raises:
        RuntimeError: From torch, where ``dims`` does not hold each axis once.
    """
    order = (*dims, *named.values())
    if len(order) == 1 and not isinstance(order[0], int):
        (order,) = order
    return view_of(PermuteFunction, input, "permute", tuple(order))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The axes ``source`` moved to ``destination``, the others in order; as ``torch.movedim``."""
    return view_of(MovedimFunction, input, "movedim", source, destination)


def _transpose_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 0, -1)
    yield sample(draw(4, 3), 1, 1, label="an axis with itself")


def _t_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _mt_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2))


def _permute_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), (2, 0, 1))
    yield sample(draw(4, 3, 2, 5), dims=(-1, 0, -2, 1), label="from the end")


def _movedim_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 0, 2)
    yield sample(draw(4, 3, 2), (0, 1), (-1, 0), label="two")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, 2, label="no such axis")


def _permute_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (0, 0), label="an axis twice")


_FORMULA = "y[i_p(0), i_p(1), ...] = x[i_0, i_1, ...]"
_GRADIENT = "dx = dy with its axes in the inverse order"

TRANSPOSE = Spec(
    name="transpose",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=transpose,
    native=torch.transpose,
    overrides=(torch.Tensor.transpose, torch.swapdims, torch.Tensor.swapdims),
    samples=_transpose_samples,
    refused=_refused,
)
SWAPAXES = Spec(
    name="swapaxes",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=swapaxes,
    native=torch.swapaxes,
    overrides=(torch.Tensor.swapaxes,),
    samples=_transpose_samples,
)
T_SPEC = Spec(
    name="t",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=t,
    native=torch.t,
    overrides=(torch.Tensor.t,),
    samples=_t_samples,
)
CAPITAL_T = Spec(
    name="T",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=T,
    native=torch.Tensor.T.__get__,  # type: ignore[attr-defined]
    samples=_t_samples,
)
MT = Spec(
    name="mT",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=mT,
    native=torch.Tensor.mT.__get__,  # type: ignore[attr-defined]
    samples=_mt_samples,
)
PERMUTE = Spec(
    name="permute",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=permute,
    native=torch.permute,
    overrides=(torch.Tensor.permute,),
    samples=_permute_samples,
    refused=_permute_refused,
)
MOVEDIM = Spec(
    name="movedim",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=movedim,
    native=torch.movedim,
    overrides=(torch.Tensor.movedim, torch.moveaxis, torch.Tensor.moveaxis),
    samples=_movedim_samples,
)
