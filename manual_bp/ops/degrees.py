r"""Degrees to radians and back: deg2rad, rad2deg.

Forward and backward::

    y = x pi / 180         dL/dx = dL/dy pi / 180
    y = x 180 / pi         dL/dx = dL/dy 180 / pi
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromNeither
from manual_bp.spec import Draw, Sample, sample


class Deg2radFunction(FromNeither):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.deg2rad(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y * (math.pi / 180)


class Rad2degFunction(FromNeither):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.rad2deg(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y * (180 / math.pi)


def deg2rad(input: Tensor) -> Tensor:
    """Degrees to radians with its gradient by hand; as ``torch.deg2rad``."""
    return Deg2radFunction.apply(input)


def rad2deg(input: Tensor) -> Tensor:
    """Radians to degrees with its gradient by hand; as ``torch.rad2deg``."""
    return Rad2degFunction.apply(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=90.0))


DEG2RAD = unary(deg2rad, "y = x pi / 180", "dx = dy pi / 180", _samples)
RAD2DEG = unary(rad2deg, "y = x 180 / pi", "dx = dy 180 / pi", _samples)
