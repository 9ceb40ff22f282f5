r"""Sigmoid: squashes the line into (0, 1).

Forward::

    y = 1 / (1 + e^-x)

Backward. With 1 + e^-x = 1/y, the chain rule gives dy/dx = e^-x y^2 = (1/y - 1) y^2, so the
output alone tells the slope::

    dL/dx = dL/dy y (1 - y)

The slope is at most 1/4, and next to nothing where ``y`` is close to 0 or 1: a stack of sigmoids
shrinks a gradient at every layer, which is how the vanishing gradient came to be known.

Rumelhart, Hinton & Williams (1986), "Learning representations by back-propagating errors", eq. 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromOutput, is_recorded, widened
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class SigmoidFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        grad_y, y = widened(grad_y, output.conj())  # conj() returns a real tensor as it is
        slope = torch.addcmul(y, y, y, value=-1)  # y - y y: one pass over memory, one rounding
        grad_x = slope * grad_y if is_recorded() else slope.mul_(grad_y)
        return grad_x.to(output.dtype)


def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))`` with its gradient by hand; as ``torch.sigmoid``.

    Args:
        input: any shape; integers are taken for floating-point numbers

    Returns:
        The shape of ``input``, in (0, 1).
    """
    return SigmoidFunction.apply(input)


def sigmoid_(input: Tensor) -> Tensor:
    """``sigmoid`` in place; as ``Tensor.sigmoid_``."""
    return copy_(input, sigmoid(input))


class Sigmoid(torch.nn.Sigmoid):
    """``torch.nn.Sigmoid`` whose gradient is :class:`SigmoidFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return sigmoid(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -40.0, -0.0, 0.0, 40.0, 800.0), label="saturated")
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="sigmoid",
    formula="y = 1 / (1 + e^-x)",
    gradient="dx = dy y (1 - y)",
    manual=sigmoid,
    native=torch.sigmoid,
    overrides=(
        torch.Tensor.sigmoid,
        torch.nn.functional.sigmoid,
        torch.special.expit,
    ),
    inplace={torch.sigmoid_: sigmoid_, torch.Tensor.sigmoid_: sigmoid_},
    samples=_samples,
    modules={Sigmoid: _modules},
    bench=_bench,
)
