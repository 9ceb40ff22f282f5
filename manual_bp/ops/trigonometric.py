r"""Circular and hyperbolic functions and their inverses; atan2 and hypot.

Forward and backward::

    sin x     dL/dx = dL/dy cos x            sinh x    dL/dx = dL/dy cosh x
    cos x     dL/dx = -dL/dy sin x           cosh x    dL/dx = dL/dy sinh x
    tan x     dL/dx = dL/dy (1 + y^2)
    asin x    dL/dx = dL/dy / sqrt(1 - x^2)  asinh x   dL/dx = dL/dy / sqrt(x^2 + 1)
    acos x    dL/dx = -dL/dy / sqrt(1 - x^2) acosh x   dL/dx = dL/dy / sqrt(x^2 - 1)
    atan x    dL/dx = dL/dy / (1 + x^2)      atanh x   dL/dx = dL/dy / (1 - x^2)

    z = atan2(y, x)            dL/dy = dL/dz x / (x^2 + y^2),  dL/dx = -dL/dz y / (x^2 + y^2)
    z = sqrt(x^2 + y^2)        dL/dx = dL/dz x / z,            dL/dy = dL/dz y / z

An inverse has the inverse slope: asin'(x) = 1 / cos(asin x), and cos = sqrt(1 - sin^2). The last
two are polar coordinates: a step along the radius changes the radius by its length and the angle
not at all, one across it the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands, unary
from manual_bp.function import FromInput, FromOutput, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample

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


class Atan2Function(FromInputs):
    """``y`` and ``x``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(y: Tensor, x: Tensor) -> Tensor:
        return torch.atan2(y, x)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        y, x = operands(ctx)
        square = x * x + y * y
        # The origin has no angle; like PyTorch, this takes 0 there.
        scale = torch.where(square == 0, square, grad_z / square)
        return asked_for(ctx, lambda: scale * x, lambda: scale * -y)


class HypotFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.hypot(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        z = torch.hypot(x, y)
        return asked_for(ctx, lambda: grad_z * (x / z), lambda: grad_z * (y / z))


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


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """Angle of the point (other, input), gradients by hand; as ``torch.atan2``.

    Args:
        input: the second coordinate, any shape
        other: the first coordinate, a shape that broadcasts with ``input``'s

    Returns:
        The broadcast shape, in [-pi, pi].
    """
    return Atan2Function.apply(input, other)


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """``sqrt(x^2 + y^2)`` without overflow, gradients by hand; as ``torch.hypot``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s

    Returns:
        The broadcast shape.
    """
    return HypotFunction.apply(input, other)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-3.0, -0.0, 0.0, 1e-9, 5.0), label="zero")


def _inside_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=-0.9, high=0.9).requires_grad_())
    yield sample(draw.values(-0.0, 0.0, 1e-9, -0.999), label="zero")


def _over_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=2.0, high=4.0).requires_grad_())


def _pair(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    x, y = draw.values(0.0, -0.0, 2.0), draw.values(-1.0, 1.0, 0.0)
    yield sample(x, y, label="on an axis", smooth=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape), draw(*shape))


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

ATAN2 = Spec(
    name="atan2",
    formula="z = atan2(y, x)",
    gradient="dy = dz x / (x^2 + y^2),  dx = -dz y / (x^2 + y^2)",
    manual=atan2,
    native=torch.atan2,
    overrides=(torch.Tensor.atan2, torch.arctan2, torch.Tensor.arctan2),
    inplace=dict.fromkeys((torch.Tensor.atan2_, torch.Tensor.arctan2_), in_place(atan2)),
    samples=_pair,
    bench=_bench,
)

HYPOT = Spec(
    name="hypot",
    formula="z = sqrt(x^2 + y^2)",
    gradient="dx = dz x / z,  dy = dz y / z",
    manual=hypot,
    native=torch.hypot,
    overrides=(torch.Tensor.hypot,),
    inplace={torch.Tensor.hypot_: in_place(hypot)},
    samples=_pair,
    bench=_bench,
)
