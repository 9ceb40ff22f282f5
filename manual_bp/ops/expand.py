r"""Expand: axes of size 1 are repeated, and new ones put in front, without a copy.

Forward, for an axis repeated R times::

    y_ri = x_i                       r = 1..R

Backward: what was used R times is blamed R times, and the blames add up::

    dL/dx_i = sum_r dL/dy_ri         the shape of x

Broadcasting in ``x + y`` and its like is an expand that nobody wrote down; its gradient is
:func:`reduced`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


def kind(x: Any) -> tuple[torch.Size, torch.dtype] | None:
    """What of an operand its gradient has to fit: shape and dtype; None for a number."""
    return (x.shape, x.dtype) if isinstance(x, Tensor) else None


def reduced(grad: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The gradient of an operand of this kind, from that of what it was broadcast to.

    It is summed over the axes along which the operand was repeated. The gradient of a real
    operand of a complex result is the real part.
    """
    if grad.is_complex() and not dtype.is_complex:
        grad = grad.real
    if grad.shape != shape:
        grad = grad.sum_to_size(shape)
    return grad if grad.dtype == dtype else grad.to(dtype)


class ExpandFunction(Function):
    """``x``: any shape; ``method`` and ``arguments`` make the view."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: Any) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.x_shape, ctx.others = inputs[0].shape, len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.sum_to_size(ctx.x_shape), *[None] * ctx.others


def expand(input: Tensor, *sizes: Any, implicit: bool = False) -> Tensor:
    """``input`` repeated along axes of size 1, without a copy; as ``Tensor.expand``.

    Args:
        input: any shape
        sizes: sizes of the result, -1 for an axis as it is
        implicit: without meaning, as in torch

    Raises:
        RuntimeError: From torch, where an axis is not of size 1 and differs.
    """
    del implicit
    return view_of(ExpandFunction, input, "expand", *sizes)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` expanded to the shape of ``other``; as ``Tensor.expand_as``."""
    return view_of(ExpandFunction, input, "expand", other.shape)


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """``input`` expanded to ``size``; as ``torch.broadcast_to``."""
    return view_of(ExpandFunction, input, "expand", size)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 1), 2, -1, 4)
    yield sample(draw(), (2, 3), label="no axis")


def _as_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 1), draw.fixed(2, 3, 4))


def _to_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 1), (2, 3, 4))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (4, 5), label="sizes differ")


_FORMULA = "y_ri = x_i"
_GRADIENT = "dx_i = sum_r dy_ri"

EXPAND = Spec(
    name="expand",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=expand,
    native=torch.Tensor.expand,
    samples=_samples,
    refused=_refused,
)
EXPAND_AS = Spec(
    name="expand_as",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=expand_as,
    native=torch.Tensor.expand_as,
    samples=_as_samples,
)
BROADCAST_TO = Spec(
    name="broadcast_to",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=broadcast_to,
    native=torch.broadcast_to,
    overrides=(torch.Tensor.broadcast_to,),
    samples=_to_samples,
)
