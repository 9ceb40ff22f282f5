r"""Polar coordinates of complex numbers: polar, angle, and sgn, the direction.

Forward::

    z = r e^(i t)        t = angle z        s = z / |z|

Backward. At z two directions matter: s, along the ray, which changes r alone, and i s, around the
origin, which changes t alone; a step of length h around changes the angle by ``h / |z|``. The
gradient of a part is the component of dL/dz in its direction, Re(conj(s) dL/dz)::

    polar    dL/dr = Re(conj(s) dL/dz),  dL/dt = Re(conj(i z) dL/dz)
    angle    dL/dz = dL/dt i s / |z|
    sgn      dL/dz = (dL/ds - s Re(conj(s) dL/ds)) / |z|

The direction does not change along the ray, so sgn lets through what is across it. All are 0 at
the origin, which has no direction, as PyTorch has it. A real number's direction is its sign, its
angle 0 or pi, and both are flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place
from manual_bp.function import FromInput, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class PolarFunction(FromInputs):
    """``r`` and ``t``: real tensors whose shapes broadcast."""

    @staticmethod
    def forward(r: Tensor, t: Tensor) -> Tensor:
        return torch.polar(r, t)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        FromInputs.setup_context(ctx, inputs, output)
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        return asked_for(
            ctx,
            lambda: torch.real(z.sgn().conj() * grad_z),
            lambda: torch.real((1j * z).conj() * grad_z),
        )


class AngleFunction(FromInput):
    """``z`` of any shape."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.angle(z)

    @staticmethod
    def backward(ctx: Any, grad_t: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        if not z.is_complex():
            return torch.zeros_like(grad_t)
        at_0, z = _apart_from_0(z)
        return (grad_t * (1j * z / z.abs().square())).masked_fill(at_0, 0)


class SgnFunction(FromInput):
    """``z`` of any shape."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.sgn(z)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        if not z.is_complex():
            return torch.zeros_like(grad_s)
        at_0, z = _apart_from_0(z)
        s = z.sgn()
        across = grad_s - s * (s.conj() * grad_s).real
        return (across / z.abs()).masked_fill(at_0, 0)


def _apart_from_0(z: Tensor) -> tuple[Tensor, Tensor]:
    """Where ``z`` is 0, and ``z`` with a 1 there, which is never used but keeps out NaN."""
    at_0 = z == 0
    return at_0, z.masked_fill(at_0, 1)


@under_autocast("float32", devices=("cpu",))
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """The complex number of a modulus and an angle, gradients by hand; as ``torch.polar``.

    Args:
        abs: at least 0, any shape
        angle: in radians, a shape that broadcasts with that of ``abs``, in the same dtype

    Returns:
        The broadcast shape.

    Raises:
        RuntimeError: From torch, where the dtypes differ, or the shapes do not broadcast.
    """
    return PolarFunction.apply(abs, angle)


def angle(input: Tensor) -> Tensor:
    """The angle of a complex number with its gradient by hand; as ``torch.angle``.

    Args:
        input: any shape

    Returns:
        The shape of ``input``, real, in [-pi, pi].
    """
    return AngleFunction.apply(input)


def sgn(input: Tensor) -> Tensor:
    """The direction ``z / |z|``, 0 at 0, with its gradient by hand; as ``torch.sgn``."""
    return SgnFunction.apply(input)


def _complex(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 3))
    zeros = torch.complex(draw.values(0.0, -0.0, -1.0), draw.values(0.0, 0.0, 0.0)).detach()
    yield sample(zeros.requires_grad_(), label="zero", smooth=False)


def _either(draw: Draw) -> Iterator[Sample]:
    yield from _complex(draw)
    yield sample(draw.values(-2.0, -0.0, 0.0, 3.0), label="of real numbers", smooth=False)


def _coordinates(draw: Draw) -> Iterator[Sample]:
    r = draw.uniform(4, 3, low=0.5, high=2.0).requires_grad_()
    yield sample(r, draw(4, 3))
    yield sample(r, draw(2, 1, 3), label="broadcast")
    yield sample(draw.values(0.0, 1.0), draw.values(1.0, 4.0), label="origin", smooth=False)


POLAR = Spec(
    name="polar",
    formula="z = r e^(i t)",
    gradient="dr = Re(conj(s) dz),  dt = Re(conj(i z) dz),  s = z / |z|",
    manual=polar,
    native=torch.polar,
    samples=_coordinates,
)
ANGLE = Spec(
    name="angle",
    formula="t = angle z",
    gradient="dz = dt i z / |z|^2",
    manual=angle,
    native=torch.angle,
    overrides=(torch.Tensor.angle,),
    samples=_either,
)
SGN = Spec(
    name="sgn",
    formula="s = z / |z|",
    gradient="dz = (ds - s Re(conj(s) ds)) / |z|",
    manual=sgn,
    native=torch.sgn,
    overrides=(torch.Tensor.sgn,),
    inplace={torch.Tensor.sgn_: in_place(sgn)},
    samples=_complex,
)
