r"""Divide, with broadcasting.

Forward, ``x`` and ``y`` broadcast to a common shape::

    z = x / y

Backward, by the quotient rule::

    dL/dx = dL/dz / y
    dL/dy = -dL/dz z / y          since d(1/y)/dy = -1/y^2

each summed over the axes along which the operand was repeated. A quotient that is rounded to an
integer is flat between its jumps: with ``rounding_mode`` both gradients are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class DivFunction(Function):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Tensor | float, y: Tensor | float, rounding_mode: str | None) -> Tensor:
        if not isinstance(x, Tensor) and rounding_mode is None:
            return y.reciprocal() * x  # type: ignore[union-attr]  # as torch computes 2 / y
        return torch.div(x, y, rounding_mode=rounding_mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, ctx.rounding_mode = inputs
        ctx.x, ctx.y = kind(x), kind(y)
        needs_x, needs_y = ctx.needs_input_grad[:2]
        ctx.save_for_backward(
            x if ctx.x and needs_y else None, y if ctx.y and (needs_x or needs_y) else None
        )
        ctx.number = x if ctx.x is None else y if ctx.y is None else None

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad_x = grad_y = None
        if ctx.rounding_mode is not None:
            flat = torch.zeros_like(grad_z)
            grad_x = reduced(flat, *ctx.x) if ctx.needs_input_grad[0] else None
            grad_y = reduced(flat, *ctx.y) if ctx.needs_input_grad[1] else None
            return grad_x, grad_y, None
        y = ctx.number if y is None else y
        if ctx.needs_input_grad[0]:
            divisor = y.conj() if isinstance(y, Tensor) else y.conjugate()
            grad_x = reduced(grad_z / divisor, *ctx.x)
        if ctx.needs_input_grad[1]:
            x = ctx.number if x is None else x
            grad_y = reduced(-grad_z * ((x / y) / y).conj(), *ctx.y)
        return grad_x, grad_y, None


def div(
    input: Tensor | float, other: Tensor | float, *, rounding_mode: str | None = None
) -> Tensor:
    """``input / other`` with its gradients by hand; as ``torch.div``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number
        rounding_mode: None, "trunc" towards 0, "floor" downwards

    Returns:
        The broadcast shape, in the promoted dtype; floating-point without ``rounding_mode``.

    Raises:
        RuntimeError: From torch, with both shapes, where they do not broadcast.
    """
    return DivFunction.apply(input, other, rounding_mode)


def div_(input: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """``div`` in place; as ``Tensor.div_`` and ``/=``."""
    if isinstance(other, Tensor) and other.requires_grad:
        input_was = clone(input)  # the gradient of other needs what input was
        return copy_(input, div(input_was, other, rounding_mode=rounding_mode))
    return copy_(input, div(input, other, rounding_mode=rounding_mode))


def true_divide(input: Tensor | float, other: Tensor | float) -> Tensor:
    """``input / other``; as ``torch.true_divide``."""
    return DivFunction.apply(input, other, None)


def rdiv(input: Tensor, other: Tensor | float) -> Tensor:
    """``other / input``; as ``Tensor.__rtruediv__``."""
    return DivFunction.apply(other, input, None)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3, shift=4))
    yield sample(draw(4, 3), draw(3, shift=4), label="broadcast")
    yield sample(draw(4, 3), -2.5, label="a number")
    yield sample(draw(4, 3), draw.integers(5, 3) + 1, label="integers")
    yield sample(
        draw.values(-0.0, 1.0, 2.0), draw.values(2.0, 0.0, -0.0), label="by 0", smooth=False
    )
    yield sample(draw(4, 3), draw(3, shift=4), rounding_mode="floor", label="rounded down")
    yield sample(draw(4, 3), 0.3, rounding_mode="trunc", label="rounded to 0")


def _rdiv_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, shift=4), 2)
    yield sample(draw(4, 3, shift=4), 2.5, label="a float")


def _true_divide_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3, shift=4))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="shapes differ")
    yield sample(draw(4, 3), 2, rounding_mode="up", label="no such rounding")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512))
    yield sample(draw(1024, 2048), draw(1024, 2048))


SPEC = Spec(
    name="div",
    formula="z = x / y",
    gradient="dx = dz / y,  dy = -dz z / y, summed over broadcast axes",
    manual=div,
    native=torch.div,
    overrides=(torch.Tensor.div, torch.divide, torch.Tensor.divide),
    inplace={torch.Tensor.div_: div_, torch.Tensor.divide_: div_},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
TRUE_DIVIDE = Spec(
    name="true_divide",
    formula="z = x / y",
    gradient="dx = dz / y,  dy = -dz z / y, summed over broadcast axes",
    manual=true_divide,
    native=torch.true_divide,
    overrides=(torch.Tensor.true_divide, torch.Tensor.__truediv__),
    inplace={torch.Tensor.true_divide_: div_, torch.Tensor.__itruediv__: div_},
    samples=_true_divide_samples,
)
RDIV = Spec(
    name="rdiv",
    formula="z = y / x",
    gradient="dx = -dz z / x",
    manual=rdiv,
    native=torch.Tensor.__rtruediv__,
    overrides=(torch.Tensor.__rdiv__,),
    samples=_rdiv_samples,
)
