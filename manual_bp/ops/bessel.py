r"""Modified Bessel functions of order 0 and 1, plain and scaled: i0, i1, i0e, i1e.

Forward::

    I0(x) = 1/pi integral_0^pi e^(x cos t) dt          i0e(x) = e^-|x| I0(x)
    I1(x) = 1/pi integral_0^pi e^(x cos t) cos t dt    i1e(x) = e^-|x| I1(x)

Backward. The slope of I0, taken under the integral, is I1; that of I1 the same with cos^2 t, which
integration by parts turns into I0 - I1/x. The factor ``e^-|x|`` adds its own slope, -sign(x)::

    I0     dL/dx = dL/dy I1(x)
    I1     dL/dx = dL/dy (I0(x) - I1(x) / x)                       1/2 at x = 0
    i0e    dL/dx = dL/dy (i1e(x) - sign(x) i0e(x))
    i1e    dL/dx = dL/dy (i0e(x) - i1e(x) (sign(x) + 1 / x))       1/2 at x = 0

I0 normalises the von Mises distribution, the Gaussian of the circle; I grows as ``e^|x|``, so the
scaled forms serve where x is large.

Abramowitz & Stegun (1964), "Handbook of Mathematical Functions", section 9.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromBoth, FromInput, widened
from manual_bp.spec import Draw, Sample, sample

special = torch.special


class I0Function(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.i0(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        g, wide = widened(grad_y, x)
        return (g * special.i1(wide)).to(x.dtype)


class I1Function(FromBoth):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.i1(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        near_0, x = _apart_from_0(x)
        slope = special.i0(x) - y / x
        return grad_y * torch.where(near_0, 0.5, slope)


class I0eFunction(FromBoth):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.i0e(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return grad_y * (special.i1e(x) - x.sign() * y)


class I1eFunction(FromBoth):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.i1e(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        near_0, x = _apart_from_0(x)
        slope = special.i0e(x) - y * (x.sign() + x.reciprocal())
        return grad_y * torch.where(near_0, 0.5, slope)


def _apart_from_0(x: Tensor) -> tuple[Tensor, Tensor]:
    """Where ``x`` is 0 to rounding, and ``x`` with another number there.

    That number is never used, but a NaN in its place would reach the second derivative.
    """
    near_0 = x.abs() <= torch.finfo(x.dtype).eps
    return near_0, x.masked_fill(near_0, 1.0)


def i0(input: Tensor) -> Tensor:
    """``I0`` with its gradient by hand; as ``torch.i0`` and ``torch.special.i0``."""
    return I0Function.apply(input)


def i1(input: Tensor) -> Tensor:
    """``I1`` with its gradient by hand; as ``torch.special.i1``."""
    return I1Function.apply(input)


def i0e(input: Tensor) -> Tensor:
    """``e^-|x| I0(x)`` with its gradient by hand; as ``torch.special.i0e``."""
    return I0eFunction.apply(input)


def i1e(input: Tensor) -> Tensor:
    """``e^-|x| I1(x)`` with its gradient by hand; as ``torch.special.i1e``."""
    return I1eFunction.apply(input)


def _even(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-30.0, -0.0, 0.0, 1e-3, 20.0), label="zero and large", smooth=False)


I0 = unary(i0, "y = I0(x)", "dx = dy I1(x)", _even, special.i0)
I1 = unary(i1, "y = I1(x)", "dx = dy (I0(x) - I1(x) / x)", _even)
I0E = unary(i0e, "y = e^-|x| I0(x)", "dx = dy (i1e(x) - sign(x) y)", _even)
I1E = unary(i1e, "y = e^-|x| I1(x)", "dx = dy (i0e(x) - y (sign(x) + 1 / x))", _even)
