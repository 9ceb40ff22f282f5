r"""Mish: the input, weighted by the tanh of its softplus.

Forward::

    y = x t,   t = tanh(log(1 + e^x))

Neither tanh nor log is needed. With tanh z = (e^2z - 1) / (e^2z + 1), where e^z = 1 + e^x, and with
s = sigmoid(x) and c = 1 - s = sigmoid(-x), so that 1 + e^x = 1 / c::

    t = (1 - c^2) / (1 + c^2) = s (1 + c) / (1 + c^2)

Backward, by the product rule; tanh' = 1 - t^2, and the softplus has the slope s::

    dL/dx = dL/dy (t + x s (1 - t^2))     1 - t^2 = (2c / (1 + c^2))^2

Nowhere are two numbers subtracted that are nearly equal: c is the sigmoid of -x, not 1 - s.

Misra (2020), "Mish: A Self Regularized Non-Monotonic Activation Function", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import times_slope
from manual_bp.function import FromInput, is_recorded, widened
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class MishFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.mish(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        if not is_recorded():
            return times_slope(grad_y, _slope_in_place, input)
        grad_y, x = widened(grad_y, input)
        s, c = torch.sigmoid(x), torch.sigmoid(-x)
        r = 1 / (1 + c * c)
        t = s * (1 + c) * r
        return (grad_y * (t + x * s * (2 * c * r).square())).to(input.dtype)


def _slope_in_place(x: Tensor) -> Tensor:
    s, c = torch.sigmoid(x), torch.neg(x).sigmoid_()
    r = torch.addcmul(c.new_ones(()), c, c).reciprocal_()
    t = torch.add(c, 1).mul_(s).mul_(r)
    return c.mul_(r).mul_(2).square_().mul_(s).mul_(x).add_(t)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x tanh(softplus(x))`` with its gradient by hand; as ``torch.nn.functional.mish``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    if inplace:
        return copy_(input, MishFunction.apply(clone(input)))
    return MishFunction.apply(input)


def mish_(input: Tensor) -> Tensor:
    """``mish`` in place."""
    return mish(input, inplace=True)


class Mish(torch.nn.Mish):
    """``torch.nn.Mish`` whose gradient is :class:`MishFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return mish(input, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -40.0, -0.0, 0.0, 40.0, 800.0), label="tails and zero")
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="mish",
    formula="y = x t,  t = tanh(log(1 + e^x))",
    gradient="dx = dy (t + x sigmoid(x) (1 - t^2))",
    manual=mish,
    native=torch.nn.functional.mish,
    overrides=(torch._C._nn.mish,),
    inplace={torch._C._nn.mish_: mish_},
    samples=_samples,
    modules={Mish: _modules},
    bench=_bench,
)
