r"""Complex numbers and their parts: complex, real, imag, view_as_real, view_as_complex.

What a gradient by ``z = x + iy`` means, here and everywhere in this library, is PyTorch's choice:
of a real loss L it is ::

    dL/dz = dL/dx + i dL/dy

the direction in the plane in which L grows fastest, so that ``z - lr dL/dz`` descends. (In
Wirtinger's calculus it is twice the derivative by the conjugate of z.) A small step dz changes the
loss by Re(conj(dL/dz) dz); the chain rule follows from that. Where y = f(z) has a complex
derivative, and where y = a z + b conj(z)::

    dL/dz = dL/dy conj(f'(z))          dL/dz = conj(a) dL/dy + b conj(dL/dy)

which is why factors are met as conjugates in the backward of mul, matmul and exp. A real argument
of such a function takes the real part.

Forward and backward of the functions here::

    y = Re z, Im z              dL/dz = dL/dy,  i dL/dy
    z = x + iy                  dL/dx = Re(dL/dz),  dL/dy = Im(dL/dz)

view_as_real and view_as_complex are the same numbers read as pairs or as complex ones. The
conjugate is in :mod:`manual_bp.ops.conj`.

Kreutz-Delgado (2009), "The Complex Gradient Operator and the CR-Calculus", section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for
from manual_bp.function import FromNeither, nothing_to_do, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class RealFunction(FromNeither):
    """``z``: complex, any shape."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.real(z)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return torch.complex(grad_y, torch.zeros_like(grad_y))


class ImagFunction(FromNeither):
    """``z``: complex, any shape."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.imag(z)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return torch.complex(torch.zeros_like(grad_y), grad_y)


class ViewAsRealFunction(FromNeither):
    """``z``: complex, any shape."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.view_as_real(z)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return torch.complex(grad_y.select(-1, 0), grad_y.select(-1, 1))


class ViewAsComplexFunction(FromNeither):
    """``x``: (..., 2)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.view_as_complex(x)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> Tensor:
        return torch.stack((grad_z.real, grad_z.imag), -1)


class ComplexFunction(FromInputs):
    """``x`` and ``y``: real tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.complex(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        return asked_for(ctx, lambda: grad_z.real, lambda: grad_z.imag)


def real(input: Tensor) -> Tensor:
    """The real part, in the same memory, gradient by hand; as ``torch.real``.

    Args:
        input: any shape; of real numbers it is what is returned
    """
    if not input.is_complex() or nothing_to_do(input):
        return torch.real(input)
    return RealFunction.apply(input)


def imag(input: Tensor) -> Tensor:
    """The imaginary part, in the same memory, gradient by hand; as ``torch.imag``.

    Args:
        input: any shape

    Raises:
        RuntimeError: From torch, for a tensor of real numbers.
    """
    return torch.imag(input) if nothing_to_do(input) else ImagFunction.apply(input)


def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs, in the same memory; as ``torch.view_as_real``.

    Args:
        input: complex, any shape

    Returns:
        (..., 2), real and imaginary parts, gradient by hand.

    Raises:
        RuntimeError: From torch, for real numbers, and for a conjugate that is a view.
    """
    return torch.view_as_real(input) if nothing_to_do(input) else ViewAsRealFunction.apply(input)


@under_autocast("float32", devices=("cpu",))
def view_as_complex(input: Tensor) -> Tensor:
    """Pairs as complex numbers, in the same memory; as ``torch.view_as_complex``.

    Args:
        input: (..., 2), real and imaginary parts

    Returns:
        (...), gradient by hand.

    Raises:
        RuntimeError: From torch, where the last axis is not of size 2, or lies apart in memory.
    """
    if nothing_to_do(input):
        return torch.view_as_complex(input)
    return ViewAsComplexFunction.apply(input)


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """``real + i imag`` with its gradients by hand; as ``torch.complex``.

    Args:
        real: floating-point, any shape
        imag: a shape that broadcasts with ``real``'s, in the same dtype

    Returns:
        The broadcast shape.

    Raises:
        RuntimeError: From torch, where the dtypes differ, or the shapes do not broadcast.
    """
    return ComplexFunction.apply(real, imag)


def _complex(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 3))


def _pairs(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2))


def _parts(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 1), draw(3), label="both broadcast")


def _real_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), label="of real numbers")


def _pairs_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), label="three parts")


def _parts_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), torch.ones(3, dtype=torch.float16), label="dtypes differ")


REAL = Spec(
    name="real",
    formula="y = Re z",
    gradient="dz = dy",
    manual=real,
    native=torch.real,
    overrides=(torch.Tensor.real.__get__,),  # type: ignore[attr-defined]
    samples=_complex,
)
IMAG = Spec(
    name="imag",
    formula="y = Im z",
    gradient="dz = i dy",
    manual=imag,
    native=torch.imag,
    overrides=(torch.Tensor.imag.__get__,),  # type: ignore[attr-defined]
    samples=_complex,
    refused=_real_refused,
)
VIEW_AS_REAL = Spec(
    name="view_as_real",
    formula="x_0, x_1 = Re z, Im z",
    gradient="dz = dx_0 + i dx_1",
    manual=view_as_real,
    native=torch.view_as_real,
    samples=_complex,
    refused=_real_refused,
)
VIEW_AS_COMPLEX = Spec(
    name="view_as_complex",
    formula="z = x_0 + i x_1",
    gradient="dx_0 = Re dz,  dx_1 = Im dz",
    manual=view_as_complex,
    native=torch.view_as_complex,
    samples=_pairs,
    refused=_pairs_refused,
)
COMPLEX = Spec(
    name="complex",
    formula="z = x + iy",
    gradient="dx = Re dz,  dy = Im dz",
    manual=complex,
    native=torch.complex,
    samples=_parts,
    refused=_parts_refused,
)
