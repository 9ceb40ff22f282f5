r"""LeakyReLU: a ReLU that lets a little through on its other side.

Forward and backward, with slope ``s`` (0.01)::

    y = x          where x > 0,  else  s x
    dL/dx = dL/dy  where x > 0,  else  s dL/dy

At the kink x = 0 this takes the slope ``s``, as PyTorch does. A unit whose inputs are all
negative still gets a gradient, so that it cannot die for good.

Maas, Hannun & Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models",
section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromInput, is_recorded, widened
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class LeakyReLUFunction(FromInput):
    """``x`` of any shape; ``slope``: a number."""

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return torch.nn.functional.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        (slope,) = ctx.numbers
        grad_y, x = widened(grad_y, input)
        if is_recorded() or not 0 <= slope <= 1:
            grad_x = torch.where(x > 0, grad_y, grad_y * slope)
        else:  # the sign is 1, 0 or -1; what is below the slope is raised to it
            grad_x = torch.sign(x).clamp_(slope, 1).mul_(grad_y)
        return grad_x.to(input.dtype), None


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """LeakyReLU with its gradient by hand; as ``torch.nn.functional.leaky_relu``.

    Args:
        input: any shape, floating-point
        negative_slope: of the line left of 0
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    if inplace:
        return copy_(input, LeakyReLUFunction.apply(clone(input), negative_slope))
    return LeakyReLUFunction.apply(input, negative_slope)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """``leaky_relu`` in place; as ``torch.nn.functional.leaky_relu_``."""
    return leaky_relu(input, negative_slope, inplace=True)


class LeakyReLU(torch.nn.LeakyReLU):
    """``torch.nn.LeakyReLU`` whose gradient is :class:`LeakyReLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return leaky_relu(input, self.negative_slope, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.2, label="slope 0.2")
    yield sample(draw(4, 3), -0.5, False, label="negative slope")
    yield sample(draw(4, 3), 1.5, label="slope over 1")
    yield sample(draw.values(-1.0, -0.0, 0.0, 1.0), label="kink", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.2)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="leaky_relu",
    formula="y = x where x > 0, else s x",
    gradient="dx = dy where x > 0, else s dy",
    manual=leaky_relu,
    native=torch.nn.functional.leaky_relu,
    overrides=(torch._C._nn.leaky_relu,),
    inplace={
        torch.nn.functional.leaky_relu_: leaky_relu_,
        torch._C._nn.leaky_relu_: leaky_relu_,
    },
    samples=_samples,
    modules={LeakyReLU: _modules},
    bench=_bench,
)
