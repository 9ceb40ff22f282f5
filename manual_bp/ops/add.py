r"""Add, with broadcasting: where two paths join; a residual connection is one.

Forward, ``x`` and ``y`` broadcast to a common shape::

    z = x + alpha y

Backward: a sum passes its gradient to both of its terms unchanged. A term that was repeated along
an axis is blamed once per repetition, and the blames add up::

    dL/dx = dL/dz          summed over the axes along which x was repeated
    dL/dy = alpha dL/dz    likewise for y

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
from manual_bp.spec import Draw, Sample, Spec, sample


class AddFunction(Function):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Tensor | float, y: Tensor | float, alpha: float) -> Tensor:
        return torch.add(x, y, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, ctx.alpha = inputs
        ctx.x_shape = x.shape if isinstance(x, Tensor) else None
        ctx.y_shape = y.shape if isinstance(y, Tensor) else None
        ctx.dtypes = [t.dtype if isinstance(t, Tensor) else None for t in (x, y)]

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_z.sum_to_size(ctx.x_shape).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            grad_y = grad_z.sum_to_size(ctx.y_shape).to(ctx.dtypes[1])
            if ctx.alpha != 1:
                grad_y = grad_y * ctx.alpha
        return grad_x, grad_y, None


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


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(3), alpha=-2.5, label="broadcast, alpha")
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    yield sample(draw(4, 3), 2.0, label="a number")
    yield sample(draw(0, 3), draw(3), label="no examples")


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
    bench=_bench,
)
