r"""SiLU, also called Swish: the input, weighted by its own sigmoid.

Forward, with s = sigmoid(x)::

    y = x s

Backward, by the product rule with s' = s (1 - s)::

    dL/dx = dL/dy (s + x s (1 - s))
          = dL/dy (y + s - y s)

The second line is an interpolation: the slope lies ``s`` of the way from ``y`` to 1.

Elfwing, Uchibe & Doya (2018), "Sigmoid-Weighted Linear Units for Neural Network Function
Approximation in Reinforcement Learning", section 2.
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


class SiLUFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        x = input.conj()  # a real tensor as it is
        if not is_recorded():
            return times_slope(grad_y, _slope_in_place, x)
        grad_y, x = widened(grad_y, x)
        s = torch.sigmoid(x)
        y = x * s  # again: torch keeps x only, so that y may be modified in place
        return (grad_y * (y + s - y * s)).to(input.dtype)


def _slope_in_place(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    y = x * s
    return y.addcmul_(y, s, value=-1).add_(s)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x sigmoid(x)`` with its gradient by hand; as ``torch.nn.functional.silu``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    if inplace:
        return copy_(input, SiLUFunction.apply(clone(input)))
    return SiLUFunction.apply(input)


def silu_(input: Tensor) -> Tensor:
    """``silu`` in place."""
    return silu(input, inplace=True)


class SiLU(torch.nn.SiLU):
    """``torch.nn.SiLU`` whose gradient is :class:`SiLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return silu(input, self.inplace)


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
    name="silu",
    formula="y = x s,  s = sigmoid(x)",
    gradient="dx = dy (y + s - y s)",
    manual=silu,
    native=torch.nn.functional.silu,
    overrides=(torch._C._nn.silu,),
    inplace={torch._C._nn.silu_: silu_},
    samples=_samples,
    modules={SiLU: _modules},
    bench=_bench,
)
