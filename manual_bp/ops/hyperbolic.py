r"""Hyperbolic functions and their inverses: sinh, cosh, asinh, acosh, atanh.

Forward and backward::

    sinh x    dL/dx = dL/dy cosh x           asinh x   dL/dx = dL/dy / sqrt(x^2 + 1)
    cosh x    dL/dx = dL/dy sinh x           acosh x   dL/dx = dL/dy / sqrt(x^2 - 1)
                                             atanh x   dL/dx = dL/dy / (1 - x^2)

An inverse has the inverse slope: asinh'(x) = 1 / cosh(asinh x), and cosh = sqrt(1 + sinh^2). The
hyperbolic tangent is a layer: :mod:`manual_bp.layers.tanh`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, under_autocast
from manual_bp.spec import Draw, Sample, sample

_float32 = under_autocast("float32", devices=("cuda",))


class SinhFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sinh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * x.conj().cosh()


class CoshFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.cosh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * x.conj().sinh()


class AsinhFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.asinh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (x.conj().square() + 1).rsqrt()


class AcoshFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.acosh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        x = x.conj()
        if x.is_complex():  # left of the imaginary axis the root of the product has another sign
            return grad_y * (x - 1).rsqrt() * (x + 1).rsqrt()
        return grad_y * (x.square() - 1).rsqrt()


class AtanhFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.atanh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / (1 - x.conj().square())


@_float32
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine with its gradient by hand; as ``torch.sinh``."""
    return SinhFunction.apply(input)


@_float32
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine with its gradient by hand; as ``torch.cosh``."""
    return CoshFunction.apply(input)


def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine with its gradient by hand; as ``torch.asinh``."""
    return AsinhFunction.apply(input)


def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine with its gradient by hand; as ``torch.acosh``."""
    return AcoshFunction.apply(input)


def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent with its gradient by hand; as ``torch.atanh``."""
    return AtanhFunction.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-3.0, -0.0, 0.0, 1e-9, 5.0), label="zero")


def _inside_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=-0.9, high=0.9).requires_grad_())
    yield sample(draw.values(-0.0, 0.0, 1e-9, -0.999), label="zero")


def _over_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=2.0, high=4.0).requires_grad_())


SINH = unary(sinh, "y = sinh x", "dx = dy cosh x", _real)
COSH = unary(cosh, "y = cosh x", "dx = dy sinh x", _real)
ASINH = unary(
    asinh,
    "y = asinh x",
    "dx = dy / sqrt(x^2 + 1)",
    _real,
    torch.arcsinh,
    torch.Tensor.arcsinh,
    written=False,
)
ACOSH = unary(
    acosh,
    "y = acosh x",
    "dx = dy / sqrt(x^2 - 1)",
    _over_one,
    torch.arccosh,
    torch.Tensor.arccosh,
    shift=3.0,
    written=False,
)
ATANH = unary(
    atanh,
    "y = atanh x",
    "dx = dy / (1 - x^2)",
    _inside_one,
    torch.arctanh,
    torch.Tensor.arctanh,
    scale=0.9,
    written=False,
)
