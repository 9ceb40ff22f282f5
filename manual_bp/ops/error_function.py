r"""The error function, its complement and its inverse: areas under the normal density.

Forward and backward, with d(x) = 2 / sqrt(pi) e^(-x^2)::

    y = erf x = integral of d from 0 to x      dL/dx = dL/dy d(x)
    y = erfc x = 1 - erf x                     dL/dx = -dL/dy d(x)
    y = erfinv x, the inverse of erf           dL/dx = dL/dy / d(y)

The slope of an integral is what was integrated; that of an inverse is the inverse slope.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, FromOutput, under_autocast
from manual_bp.spec import Draw, Sample, sample

_AT_0 = 2 / math.sqrt(math.pi)


class ErfFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.erf(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (_AT_0 * torch.exp(-x.square()))


class ErfcFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.erfc(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (-_AT_0 * torch.exp(-x.square()))


class ErfinvFunction(FromOutput):
    """``x`` of any shape, in (-1, 1)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.erfinv(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * (torch.exp(y.square()) / _AT_0)


def erf(input: Tensor) -> Tensor:
    """Error function with its gradient by hand; as ``torch.erf``."""
    return ErfFunction.apply(input)


def erfc(input: Tensor) -> Tensor:
    """``1 - erf(x)``, precise for large x, gradient by hand; as ``torch.erfc``."""
    return ErfcFunction.apply(input)


@under_autocast("float32", devices=("cuda",))
def erfinv(input: Tensor) -> Tensor:
    """Inverse of ``erf`` with its gradient by hand; as ``torch.erfinv``."""
    return ErfinvFunction.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-30.0, -0.0, 0.0, 1e-9, 5.0), label="zero and tails")


def _inside_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=-0.9, high=0.9).requires_grad_())


ERF = unary(erf, "y = erf x", "dx = dy 2/sqrt(pi) e^(-x^2)", _real, torch.special.erf)
ERFC = unary(erfc, "y = 1 - erf x", "dx = -dy 2/sqrt(pi) e^(-x^2)", _real, torch.special.erfc)
ERFINV = unary(
    erfinv,
    "y = erf^-1 x",
    "dx = dy sqrt(pi)/2 e^(y^2)",
    _inside_one,
    torch.special.erfinv,
    scale=0.9,
)
