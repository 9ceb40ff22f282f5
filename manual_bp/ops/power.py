r"""Powers: pow in all its forms, square, sqrt, rsqrt, reciprocal.

Forward and backward::

    z = x^p       dL/dx = dL/dz p x^(p - 1)        0 where p = 0
                  dL/dp = dL/dz z ln x             0 where x = 0 and p >= 0
    y = x^2       dL/dx = dL/dy 2 x
    y = sqrt x    dL/dx = dL/dy / (2 y)
    y = x^-1/2    dL/dx = -dL/dy y^3 / 2
    y = 1 / x     dL/dx = -dL/dy y^2

The two exceptions are limits. x^0 is 1 for every x, 0 too, although x^-1 is infinite there; and
0^p is 0 for all p > 0, so that p does nothing, although ln 0 is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import asked_for, in_place, unary
from manual_bp.function import CastFunction, FromInput, FromOutput, Function, under_autocast
from manual_bp.ops.expand import kind
from manual_bp.spec import Draw, Sample, Spec, sample

_float32 = under_autocast("float32", devices=("cuda",))


class PowFunction(Function):
    """``x`` and ``p``: tensors whose shapes broadcast, or one of them a number."""

    @staticmethod
    def forward(x: Any, p: Any) -> Tensor:
        return torch.pow(x, p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, p = inputs
        ctx.kinds = [kind(x), kind(p)]
        ctx.numbers = [None if isinstance(a, Tensor) else a for a in inputs]
        tensors = [a if isinstance(a, Tensor) else None for a in inputs]
        ctx.save_for_backward(*tensors, output if ctx.needs_input_grad[1] else None)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, p, z = ctx.saved_tensors
        return asked_for(
            ctx,
            lambda: _by_base(grad_z, x, ctx.numbers[1] if p is None else p),
            lambda: _by_exponent(grad_z, ctx.numbers[0] if x is None else x, p, z),
        )


def _by_base(grad_z: Tensor, x: Tensor, p: Tensor | float) -> Tensor:
    if not isinstance(p, Tensor):
        return grad_z * (p * x.pow(p - 1)).conj() if p != 0 else torch.zeros_like(grad_z)
    grad = grad_z * (p * x.pow(p - 1)).conj()
    return torch.where(p == 0, grad.new_zeros(()), grad)


def _by_exponent(grad_z: Tensor, x: Tensor | float, p: Tensor, z: Tensor) -> Tensor:
    at_least_0 = (p.real >= 0) & (p.imag == 0) if p.is_complex() else p >= 0
    if isinstance(x, Tensor):
        # In the dtype of z: a negative number has a complex logarithm.
        slope, flat = z * x.to(z.dtype).log(), (x == 0) & at_least_0
    elif x == 0:
        slope, flat = z * -math.inf, at_least_0
    else:
        return grad_z * (z * torch.log(torch.as_tensor(x, dtype=z.dtype, device=z.device))).conj()
    return grad_z * torch.where(flat, slope.new_zeros(()), slope).conj()


class SquareFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.square(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (x.conj() * 2)


class SqrtFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sqrt(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y / (2 * y.conj())


class RsqrtFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.rsqrt(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return -0.5 * grad_y * y.pow(3).conj()


class ReciprocalFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.reciprocal(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return -grad_y * y.square().conj()


@_float32
def pow(input: Tensor | float, exponent: Tensor | float) -> Tensor:
    """``input ** exponent`` with its gradients by hand; as ``torch.pow``.

    Args:
        input: any shape, or a number
        exponent: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, where the shapes do not broadcast.
    """
    return PowFunction.apply(input, exponent)


def _rpow(exponent: Tensor, input: Tensor | float) -> Tensor:
    """With the arguments of ``Tensor.__rpow__``: of ``2 ** x``, ``x`` comes first."""
    return pow(input, exponent)


def float_power(input: Tensor | float, exponent: Tensor | float) -> Tensor:
    """``pow`` in double precision, gradients by hand; as ``torch.float_power``.

    Args:
        input: as in :func:`pow`
        exponent: as in :func:`pow`

    Returns:
        The broadcast shape, in float64, or complex128 where an argument is complex.
    """
    operands = [torch.as_tensor(a) for a in (input, exponent)]
    dtype = torch.complex128 if any(a.is_complex() for a in operands) else torch.float64
    given = (input, exponent)
    return pow(*[CastFunction.apply(a, dtype) if isinstance(a, Tensor) else a for a in given])


def square(input: Tensor) -> Tensor:
    """``x^2`` with its gradient by hand; as ``torch.square``."""
    return SquareFunction.apply(input)


def sqrt(input: Tensor) -> Tensor:
    """Square root with its gradient by hand; as ``torch.sqrt``."""
    return SqrtFunction.apply(input)


@_float32
def rsqrt(input: Tensor) -> Tensor:
    """``1 / sqrt(x)`` with its gradient by hand; as ``torch.rsqrt``."""
    return RsqrtFunction.apply(input)


@_float32
def reciprocal(input: Tensor) -> Tensor:
    """``1 / x`` with its gradient by hand; as ``torch.reciprocal``."""
    return ReciprocalFunction.apply(input)


def _pow(draw: Draw) -> Iterator[Sample]:
    def positive(*shape: int) -> Tensor:  # the power is taken both ways round
        return draw.uniform(*shape, low=0.2, high=2.0).requires_grad_()

    yield sample(positive(4, 3), positive(4, 3))
    yield sample(positive(2, 1, 3), positive(4, 1), label="both broadcast")
    yield sample(draw(4, 3), 3, label="cubed")
    yield sample(positive(4, 3), 1.5, label="a fraction")
    yield sample(draw(4, 3), 0, label="to the power of 0")
    yield sample(2.0, draw(4, 3), label="a number first")
    yield sample(0.0, draw.values(0.0, 2.0), label="0 first", smooth=False)
    x, p = draw.values(0.0, 0.0, -1.5), draw.values(0.0, 2.0, 0.0)
    yield sample(x, p.detach(), label="limits, base", smooth=False)
    yield sample(x[:2].detach(), p.detach()[:2].requires_grad_(), label="limits", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="shapes differ")


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-3.0, -0.0, 0.0, 1e-9, 1e6), label="zero and large")


def _positive(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=0.1, high=3.0).requires_grad_())
    yield sample(draw.values(1e-30, 1.0, 1e30), label="tiny and huge", smooth=False)


def _pow_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), 2)
    yield sample(draw(1024, 2048), 2)


POW = Spec(
    name="pow",
    formula="z = x^p",
    gradient="dx = dz p x^(p - 1),  dp = dz z ln x",
    manual=pow,
    native=torch.pow,
    overrides=(torch.Tensor.pow, torch.Tensor.__pow__),
    inplace={
        torch.Tensor.__rpow__: _rpow,
        torch.Tensor.pow_: in_place(pow),
        torch.Tensor.__ipow__: in_place(pow),
    },
    samples=_pow,
    refused=_refused,
    bench=_pow_bench,
)
FLOAT_POWER = Spec(
    name="float_power",
    formula="z = x^p, in double precision",
    gradient="dx = dz p x^(p - 1),  dp = dz z ln x",
    manual=float_power,
    native=torch.float_power,
    overrides=(torch.Tensor.float_power,),
    inplace={torch.Tensor.float_power_: in_place(float_power)},
    samples=_pow,
)
SQUARE = unary(square, "y = x^2", "dx = 2 dy x", _real)
SQRT = unary(sqrt, "y = sqrt x", "dx = dy / (2 y)", _positive, shift=1.5)
RSQRT = unary(rsqrt, "y = 1 / sqrt x", "dx = -dy y^3 / 2", _positive, shift=1.5)
RECIPROCAL = unary(reciprocal, "y = 1 / x", "dx = -dy y^2", _positive, shift=1.5)
