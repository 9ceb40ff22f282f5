r"""Exponentials: exp, exp2 and expm1.

Forward and backward::

    y = e^x            dL/dx = dL/dy y              its own slope
    y = 2^x            dL/dx = dL/dy y ln 2
    y = e^x - 1        dL/dx = dL/dy (y + 1)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromOutput, under_autocast
from manual_bp.spec import Draw, Sample, sample

_float32 = under_autocast("float32", devices=("cuda",))


class ExpFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.exp(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * y.conj()


class Exp2Function(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.exp2(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * y.conj() * math.log(2)


class Expm1Function(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.expm1(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * (y.conj() + 1)


@_float32
def exp(input: Tensor) -> Tensor:
    """``e^x`` with its gradient by hand; as ``torch.exp``."""
    return ExpFunction.apply(input)


def exp2(input: Tensor) -> Tensor:
    """``2^x`` with its gradient by hand; as ``torch.exp2``."""
    return Exp2Function.apply(input)


@_float32
def expm1(input: Tensor) -> Tensor:
    """``e^x - 1``, precise near 0, with its gradient by hand; as ``torch.expm1``."""
    return Expm1Function.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -0.0, 0.0, 1e-9, 5.0), label="zero and tails")


EXP = unary(exp, "y = e^x", "dx = dy y", _real)
EXP2 = unary(exp2, "y = 2^x", "dx = dy y ln 2", _real, torch.special.exp2)
EXPM1 = unary(expm1, "y = e^x - 1", "dx = dy (y + 1)", _real, torch.special.expm1)
