r"""Sinc: what an ideal low-pass filter makes of an impulse, and the spectrum of a rectangle.

Forward::

    y = sin(pi x) / (pi x)         1 at x = 0

Backward, by the quotient rule::

    dL/dx = dL/dy (cos(pi x) - y) / x         0 at x = 0, the top
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, widened
from manual_bp.spec import Draw, Sample, sample


class SincFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sinc(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x_given,) = ctx.saved_tensors
        g, x = widened(grad_y, x_given.conj())
        square = math.pi * x.square()  # which underflows before x does
        angle = math.pi * x
        slope = (angle * angle.cos() - angle.sin()) / square
        return torch.where(square == 0, slope.new_zeros(()), g * slope).to(x_given.dtype)


def sinc(input: Tensor) -> Tensor:
    """``sin(pi x) / (pi x)`` with its gradient by hand; as ``torch.sinc``."""
    return SincFunction.apply(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-0.0, 0.0, 1e-200, 7.5), label="zero", smooth=False)


SINC = unary(
    sinc, "y = sin(pi x) / (pi x)", "dx = dy (cos(pi x) - y) / x", _samples, torch.special.sinc
)
