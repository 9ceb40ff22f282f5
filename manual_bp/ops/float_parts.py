r"""What a floating-point number is made of: copysign, frexp, ldexp, nextafter.

A number is ``sign * mantissa * 2^exponent``, with a mantissa in [1/2, 1). Forward and backward::

    z = |x| with the sign of y      dL/dx = dL/dz z / x,  dL/dy = 0         0 at x = 0
    m, e with x = m 2^e             dL/dx = dL/dm / 2^e                     frexp; e is an integer
    z = x 2^y                       dL/dx = dL/dz 2^y,  dL/dy = dL/dz z ln 2
    z = the number after x towards y      dL/dx = dL/dz,  dL/dy = 0         both 0 at x = y

A sign and an exponent are constants between their jumps; the gradient sees the rest. PyTorch's own
gradients raise 2 to the power of an integer, which rounds 2^-1 to 0 (ldexp), or of a float32, which
overflows for a float64's exponent (frexp); here the exponent counts as a number of the dtype of x.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.function import Function
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class CopysignFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast, or ``y`` a number."""

    @staticmethod
    def forward(x: Tensor, y: Tensor | float) -> Tensor:
        return torch.copysign(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = (a.detach() if isinstance(a, Tensor) else a for a in operands(ctx))

        def by_x() -> Tensor:
            sign = torch.copysign(x, y) / x  # 1 or -1
            return grad_z * torch.where(x == 0, sign.new_zeros(()), sign)

        return asked_for(ctx, by_x, lambda: torch.zeros_like(grad_z))


class FrexpFunction(Function):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        mantissa, exponent = torch.frexp(x)
        return mantissa, exponent

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, exponent = output
        ctx.mark_non_differentiable(exponent)
        ctx.save_for_backward(exponent)

    @staticmethod
    def backward(ctx: Any, grad_mantissa: Tensor, grad_exponent: None) -> Tensor:
        (exponent,) = ctx.saved_tensors
        return grad_mantissa * torch.exp2(-exponent.to(grad_mantissa.dtype))


class LdexpFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.ldexp(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        power = torch.exp2(y.to(grad_z.dtype)).conj()
        return asked_for(
            ctx,
            lambda: grad_z * power,
            lambda: grad_z * x.conj() * power * math.log(2),
        )


class NextafterFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.nextafter(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        return asked_for(
            ctx, lambda: where_nonzero(x != y, grad_z), lambda: torch.zeros_like(grad_z)
        )


def copysign(input: Tensor, other: Tensor | float) -> Tensor:
    """The size of ``input`` with the sign of ``other``; as ``torch.copysign``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s, or a number; -0.0 is negative

    Returns:
        The broadcast shape.
    """
    return CopysignFunction.apply(input, other)


def frexp(input: Tensor) -> Any:
    """Mantissa and exponent; as ``torch.frexp``.

    Args:
        input: any shape, floating-point

    Returns:
        The mantissa, in (-1, 1), with its gradient by hand, and the exponent, int32.
    """
    return torch.return_types.frexp(FrexpFunction.apply(input))


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """``input * 2 ** other`` with its gradients by hand; as ``torch.ldexp``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s; most often integers

    Returns:
        The broadcast shape.
    """
    return LdexpFunction.apply(input, other)


def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The next number after ``input`` in the direction of ``other``; as ``torch.nextafter``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s, in the same dtype

    Returns:
        The broadcast shape.
    """
    return NextafterFunction.apply(input, other)


def _signs(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))
    yield sample(draw(4, 3), -2.0, label="a number")
    x, y = draw.values(-1.0, 0.0, -0.0, 2.0), draw.values(0.0, -1.0, 1.0, -0.0)
    yield sample(x, y, label="zeros", smooth=False)


def _numbers(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=5.0))
    yield sample(draw.values(-0.0, 1e-30, 1e30), label="zero, tiny and huge", smooth=False)


def _exponents(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.integers(7, 3))
    yield sample(draw(4, 1), draw(2, 1, 3), label="fractions, both broadcast")


def _neighbours(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3), smooth=False)
    yield sample(draw.values(1.0, 2.0), draw.values(1.0, 3.0), label="equal", smooth=False)


COPYSIGN = Spec(
    name="copysign",
    formula="z = |x| with the sign of y",
    gradient="dx = dz z / x,  dy = 0",
    manual=copysign,
    native=torch.copysign,
    overrides=(torch.Tensor.copysign,),
    inplace={torch.Tensor.copysign_: in_place(copysign)},
    samples=_signs,
)
FREXP = Spec(
    name="frexp",
    formula="m, e with x = m 2^e",
    gradient="dx = dm / 2^e",
    manual=frexp,
    native=torch.frexp,
    overrides=(torch.Tensor.frexp,),
    samples=_numbers,
)
LDEXP = Spec(
    name="ldexp",
    formula="z = x 2^y",
    gradient="dx = dz 2^y,  dy = dz z ln 2",
    manual=ldexp,
    native=torch.ldexp,
    overrides=(torch.Tensor.ldexp,),
    inplace=dict.fromkeys((torch.Tensor.ldexp_, torch.ldexp_), in_place(ldexp)),
    samples=_exponents,
)
NEXTAFTER = Spec(
    name="nextafter",
    formula="z = the number after x towards y",
    gradient="dx = dz,  dy = 0",
    manual=nextafter,
    native=torch.nextafter,
    overrides=(torch.Tensor.nextafter,),
    inplace={torch.Tensor.nextafter_: in_place(nextafter)},
    samples=_neighbours,
)
