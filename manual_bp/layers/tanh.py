r"""Tanh: squashes the line into (-1, 1), with slope 1 at the origin.

Forward::

    y = (e^x - e^-x) / (e^x + e^-x)

Backward. By the quotient rule dy/dx = 1 - sinh^2 x / cosh^2 x, so the output tells the slope::

    dL/dx = dL/dy (1 - y^2)

Zero-centred outputs and a slope of up to 1, four times a sigmoid's, are why it trains faster:
LeCun, Bottou, Orr & Mueller (1998), "Efficient BackProp", section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromOutput, is_recorded, widened
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class TanhFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        grad_y, y = widened(grad_y, output.conj())  # conj() returns a real tensor as it is
        slope = torch.addcmul(y.new_ones(()), y, y, value=-1)  # 1 - y y, in one pass over memory
        grad_x = slope * grad_y if is_recorded() else slope.mul_(grad_y)
        return grad_x.to(output.dtype)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent with its gradient by hand; as ``torch.tanh``.

    Args:
        input: any shape; integers are taken for floating-point numbers

    Returns:
        The shape of ``input``, in (-1, 1).
    """
    return TanhFunction.apply(input)


def tanh_(input: Tensor) -> Tensor:
    """``tanh`` in place; as ``Tensor.tanh_``."""
    return copy_(input, tanh(input))


class Tanh(torch.nn.Tanh):
    """``torch.nn.Tanh`` whose gradient is :class:`TanhFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return tanh(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -10.0, -0.0, 0.0, 10.0, 800.0), label="saturated")
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="tanh",
    formula="y = tanh x",
    gradient="dx = dy (1 - y^2)",
    manual=tanh,
    native=torch.tanh,
    overrides=(torch.Tensor.tanh, torch.nn.functional.tanh),
    inplace={torch.tanh_: tanh_, torch.Tensor.tanh_: tanh_},
    samples=_samples,
    modules={Tanh: _modules},
    bench=_bench,
)
