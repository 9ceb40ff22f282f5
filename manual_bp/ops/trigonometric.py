r"""Circular functions and their inverses: sin, cos, tan, asin, acos, atan.

Forward and backward::

    sin x     dL/dx = dL/dy cos x            asin x    dL/dx = dL/dy / sqrt(1 - x^2)
    cos x     dL/dx = -dL/dy sin x           acos x    dL/dx = -dL/dy / sqrt(1 - x^2)
    tan x     dL/dx = dL/dy (1 + y^2)        atan x    dL/dx = dL/dy / (1 + x^2)

An inverse has the inverse slope: asin'(x) = 1 / cos(asin x), and cos = sqrt(1 - sin^2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, FromOutput, under_autocast
from manual_bp.spec import Draw, Sample, sample

_float32 = under_autocast("float32", devices=("cuda",))


class SinFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sin(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * x.conj().cos()


class CosFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.cos(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return -grad_y * x.conj().sin()


class TanFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.tan(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * (1 + y.conj().square())


class AsinFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.asin(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (1 - x.conj().square()).rsqrt()


class AcosFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.acos(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return -grad_y * (1 - x.conj().square()).rsqrt()


class AtanFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.atan(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / (1 + x.conj().square())


def sin(input: Tensor) -> Tensor:
    """Sine with its gradient by hand; as ``torch.sin``."""
    return SinFunction.apply(input)


def cos(input: Tensor) -> Tensor:
    """Cosine with its gradient by hand; as ``torch.cos``."""
    return CosFunction.apply(input)


@_float32
def tan(input: Tensor) -> Tensor:
    """Tangent with its gradient by hand; as ``torch.tan``."""
    return TanFunction.apply(input)


@_float32
def asin(input: Tensor) -> Tensor:
    """Inverse sine with its gradient by hand; as ``torch.asin``."""
    return AsinFunction.apply(input)


@_float32
def acos(input: Tensor) -> Tensor:
    """Inverse cosine with its gradient by hand; as ``torch.acos``."""
    return AcosFunction.apply(input)


def atan(input: Tensor) -> Tensor:
    """Inverse tangent with its gradient by hand; as ``torch.atan``."""
    return AtanFunction.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-3.0, -0.0, 0.0, 1e-9, 5.0), label="zero")


def _inside_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=-0.9, high=0.9).requires_grad_())
    yield sample(draw.values(-0.0, 0.0, 1e-9, -0.999), label="zero")


SIN = unary(sin, "y = sin x", "dx = dy cos x", _real)
COS = unary(cos, "y = cos x", "dx = -dy sin x", _real)
TAN = unary(tan, "y = tan x", "dx = dy (1 + y^2)", _real)
ASIN = unary(
    asin,
    "y = asin x",
    "dx = dy / sqrt(1 - x^2)",
    _inside_one,
    torch.arcsin,
    torch.Tensor.arcsin,
    scale=0.9,
)
ACOS = unary(
    acos,
    "y = acos x",
    "dx = -dy / sqrt(1 - x^2)",
    _inside_one,
    torch.arccos,
    torch.Tensor.arccos,
    scale=0.9,
)
ATAN = unary(atan, "y = atan x", "dx = dy / (1 + x^2)", _real, torch.arctan, torch.Tensor.arctan)
