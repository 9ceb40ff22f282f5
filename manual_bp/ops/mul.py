r"""Multiply, with broadcasting: where one path is a gate for the other.

Forward, ``x`` and ``y`` broadcast to a common shape::

    z = x y

Backward: each factor is blamed by as much as the other let through::

    dL/dx = dL/dz y        summed over the axes along which x was repeated
    dL/dy = dL/dz x        likewise for y
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


class MulFunction(Function):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Tensor | float, y: Tensor | float) -> Tensor:
        return torch.mul(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y = inputs
        ctx.x, ctx.y = kind(x), kind(y)
        # Each factor is kept for the gradient of the other, and only where that is asked for.
        ctx.save_for_backward(
            x if ctx.needs_input_grad[1] and ctx.x else None,
            y if ctx.needs_input_grad[0] and ctx.y else None,
        )
        number = y if ctx.y is None else x
        ctx.number = None if isinstance(number, Tensor) else number.conjugate()

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced(grad_z * (ctx.number if y is None else y.conj()), *ctx.x)
        if ctx.needs_input_grad[1]:
            grad_y = reduced(grad_z * (ctx.number if x is None else x.conj()), *ctx.y)
        return grad_x, grad_y


def mul(input: Tensor | float, other: Tensor | float) -> Tensor:
    """``input * other`` with its gradients by hand; as ``torch.mul``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, with both shapes, where they do not broadcast.
    """
    return MulFunction.apply(input, other)


def mul_(input: Tensor, other: Tensor | float) -> Tensor:
    """``mul`` in place; as ``Tensor.mul_`` and ``*=``."""
    if isinstance(other, Tensor) and other.requires_grad:
        return copy_(input, mul(clone(input), other))  # its gradient needs what input was
    return copy_(input, mul(input, other))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(3), label="broadcast")
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    yield sample(draw(4, 3), -2.5, label="a number")
    yield sample(draw(4, 3), draw.integers(5, 3), label="integers")
    yield sample(draw(0, 3), draw(3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="shapes differ")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512))
    yield sample(draw(1024, 2048), draw(1024, 2048))


SPEC = Spec(
    name="mul",
    formula="z = x y",
    gradient="dx = dz y,  dy = dz x, summed over broadcast axes",
    manual=mul,
    native=torch.mul,
    overrides=(
        torch.Tensor.mul,
        torch.Tensor.__mul__,
        torch.Tensor.__rmul__,
        torch.multiply,
        torch.Tensor.multiply,
    ),
    inplace={
        torch.Tensor.mul_: mul_,
        torch.Tensor.__imul__: mul_,
        torch.Tensor.multiply_: mul_,
    },
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
