r"""Add and subtract, with broadcasting: where two paths join; a residual connection is one.

Forward, ``x`` and ``y`` broadcast to a common shape::

    z = x + alpha y        z = x - alpha y

Backward: a sum passes its gradient to both of its terms unchanged. A term that was repeated along
an axis is blamed once per repetition, and the blames add up::

    dL/dx = dL/dz          summed over the axes along which x was repeated
    dL/dy = alpha dL/dz    likewise for y; with -alpha for a difference

That the gradient reaches ``x`` undiminished, whatever ``y`` is, is what makes deep residual
networks trainable: He et al. (2016), "Identity Mappings in Deep Residual Networks", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.copy import copy_
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class AddFunction(Function):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Tensor | float, y: Tensor | float, alpha: float) -> Tensor:
        return torch.add(x, y, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, alpha = inputs
        ctx.alpha = alpha.conjugate()  # of a complex number
        ctx.x, ctx.y = kind(x), kind(y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced(grad_z, *ctx.x)
        if ctx.needs_input_grad[1]:
            grad_y = _scaled(grad_z, ctx.alpha, ctx.y)
        return grad_x, grad_y, None


class SubFunction(Function):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Tensor | float, y: Tensor | float, alpha: float) -> Tensor:
        return torch.sub(x, y, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, alpha = inputs
        ctx.alpha = alpha.conjugate()  # of a complex number
        ctx.x, ctx.y = kind(x), kind(y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced(grad_z, *ctx.x)
        if ctx.needs_input_grad[1]:
            grad_y = _scaled(grad_z, -ctx.alpha, ctx.y)
        return grad_x, grad_y, None


def _scaled(grad: Tensor, alpha: complex, operand: Any) -> Tensor:
    if isinstance(alpha, complex):  # which may turn what a real operand takes the real part of
        return reduced(grad * alpha, *operand)
    grad = reduced(grad, *operand)
    return grad if alpha == 1 else grad * alpha


def add(input: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """``input + alpha * other`` with its gradients by hand; as ``torch.add``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number
        alpha: what ``other`` is multiplied by

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, with both shapes, where they do not broadcast.
    """
    return AddFunction.apply(input, other, alpha)


def add_(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """``add`` in place; as ``Tensor.add_`` and ``+=``."""
    return copy_(input, add(input, other, alpha=alpha))


def sub(input: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """``input - alpha * other`` with its gradients by hand; as ``torch.sub``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number
        alpha: what ``other`` is multiplied by

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, with both shapes, where they do not broadcast.
    """
    return SubFunction.apply(input, other, alpha)


def sub_(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """``sub`` in place; as ``Tensor.sub_`` and ``-=``."""
    return copy_(input, sub(input, other, alpha=alpha))


def rsub(input: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """``other - alpha * input``; as ``torch.rsub`` and ``Tensor.__rsub__``."""
    return SubFunction.apply(other, input, alpha)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(3), alpha=-2.5, label="broadcast, alpha")
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    yield sample(draw(4, 3), 2.0, label="a number")
    yield sample(draw(4, 3), draw.integers(5, 3), label="integers")
    yield sample(
        draw(4, 3), draw.values(0.5)[0].detach().float(), label="a scalar of another dtype"
    )
    yield sample(draw(0, 3), draw(3), label="no examples")


def _rsub_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))
    yield sample(draw(4, 3), 2, alpha=3, label="a number")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="shapes differ")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(512))
    yield sample(draw(1024, 2048), draw(2048))


SPEC = Spec(
    name="add",
    formula="z = x + alpha y",
    gradient="dx = dz,  dy = alpha dz, summed over broadcast axes",
    manual=add,
    native=torch.add,
    overrides=(torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__),
    inplace={torch.Tensor.add_: add_, torch.Tensor.__iadd__: add_},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
SUB = Spec(
    name="sub",
    formula="z = x - alpha y",
    gradient="dx = dz,  dy = -alpha dz, summed over broadcast axes",
    manual=sub,
    native=torch.sub,
    overrides=(torch.Tensor.sub, torch.Tensor.__sub__, torch.subtract, torch.Tensor.subtract),
    inplace={torch.Tensor.sub_: sub_, torch.Tensor.__isub__: sub_, torch.Tensor.subtract_: sub_},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
RSUB = Spec(
    name="rsub",
    formula="z = y - alpha x",
    gradient="dx = -alpha dz,  dy = dz, summed over broadcast axes",
    manual=rsub,
    native=torch.rsub,
    overrides=(torch.Tensor.__rsub__,),
    samples=_rsub_samples,
)
