r"""The polar coordinates of a point (x, y): atan2, its angle, and hypot, its distance from 0.

Forward and backward::

    z = atan2(y, x)            dL/dy = dL/dz x / (x^2 + y^2),  dL/dx = -dL/dz y / (x^2 + y^2)
    z = sqrt(x^2 + y^2)        dL/dx = dL/dz x / z,            dL/dy = dL/dz y / z

A step along the radius changes the radius by its length and the angle not at all, one across it
the other way round. For complex numbers there is :mod:`manual_bp.ops.polar`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.spec import Draw, Sample, Spec, sample


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


def _pair(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    x, y = draw.values(0.0, -0.0, 2.0), draw.values(-1.0, 1.0, 0.0)
    yield sample(x, y, label="on an axis", smooth=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape), draw(*shape))


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
