r"""Hardsigmoid and Hardswish: sigmoid and SiLU made of straight lines, cheap without an exp.

Forward::

    hardsigmoid   y = min(max(x / 6 + 1/2, 0), 1)
    hardswish     y = x hardsigmoid(x)

Backward; the second is the product rule, x / 6 + 1/2 + x / 6::

    hardsigmoid   dL/dx = dL/dy / 6              where -3 < x < 3,  else 0
    hardswish     dL/dx = dL/dy (x / 3 + 1/2)    where -3 < x < 3
                        = dL/dy where x >= 3,  0 where x <= -3

The kinks at -3 and 3 fall to the flat pieces, as in PyTorch. For hardswish the three pieces are
one: with u = x / 3 held to [-1, 1], the slope is u + 1/2 inside, and the ends are one half nearer
to the middle. u, cut to an integer, is 0 inside, and 1 or -1 at the ends.

Courbariaux, Bengio & David (2015), "BinaryConnect", section 2.3; Howard et al. (2019), "Searching
for MobileNetV3", section 5.2.
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
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample

_SIXTH = 0.1666666716337204  # rounded to float32, as torch's kernel has it for every dtype


class HardsigmoidFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.hardsigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        held = x.clamp(-3, 3)  # is 3 or -3 outside
        return where_nonzero((held + 3) * (3 - held), grad_y) * _SIXTH


class HardswishFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.hardswish(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        if not is_recorded():
            return times_slope(grad_y, _hardswish_slope_in_place, input)
        grad_y, x = widened(grad_y, input)
        grad_x = torch.where(x < 3, grad_y * (x / 3 + 0.5), grad_y)
        return torch.where(x <= -3, grad_y.new_zeros(()), grad_x).to(input.dtype)


def _hardswish_slope_in_place(x: Tensor) -> Tensor:
    u = torch.div(x, 3).clamp_(-1, 1)
    return u.sub_(u.trunc(), alpha=0.5).add_(0.5)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Piecewise linear sigmoid, gradient by hand; as ``torch.nn.functional.hardsigmoid``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``, in [0, 1].
    """
    if inplace:
        return copy_(input, HardsigmoidFunction.apply(clone(input)))
    return HardsigmoidFunction.apply(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x hardsigmoid(x)`` with its gradient by hand; as ``torch.nn.functional.hardswish``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    if inplace:
        return copy_(input, HardswishFunction.apply(clone(input)))
    return HardswishFunction.apply(input)


def _hardsigmoid_(input: Tensor) -> Tensor:
    return hardsigmoid(input, inplace=True)


def _hardswish_(input: Tensor) -> Tensor:
    return hardswish(input, inplace=True)


class Hardsigmoid(torch.nn.Hardsigmoid):
    """``torch.nn.Hardsigmoid`` whose gradient is :class:`HardsigmoidFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return hardsigmoid(input, self.inplace)


class Hardswish(torch.nn.Hardswish):
    """``torch.nn.Hardswish`` whose gradient is :class:`HardswishFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return hardswish(input, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=3.0))
    yield sample(draw.values(-3.0, 3.0, -4.0, 4.0, -0.0, 0.0), label="kinks", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=3.0))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


HARDSIGMOID = Spec(
    name="hardsigmoid",
    formula="y = min(max(x / 6 + 1/2, 0), 1)",
    gradient="dx = dy / 6 where -3 < x < 3, else 0",
    manual=hardsigmoid,
    native=torch.nn.functional.hardsigmoid,
    overrides=(torch._C._nn.hardsigmoid,),
    inplace={torch._C._nn.hardsigmoid_: _hardsigmoid_},
    samples=_samples,
    modules={Hardsigmoid: _modules},
    bench=_bench,
)

HARDSWISH = Spec(
    name="hardswish",
    formula="y = x min(max(x / 6 + 1/2, 0), 1)",
    gradient="dx = dy (x / 3 + 1/2) where -3 < x < 3; dy above, 0 below",
    manual=hardswish,
    native=torch.nn.functional.hardswish,
    overrides=(torch._C._nn.hardswish,),
    inplace={torch._C._nn.hardswish_: _hardswish_},
    samples=_samples,
    modules={Hardswish: _modules},
    bench=_bench,
)
