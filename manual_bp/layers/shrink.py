r"""Shrinking: small inputs become 0. Hardshrink, Softshrink and Tanhshrink.

Forward, with a threshold ``s``::

    hardshrink   y = x                 where |x| > s,  else 0
    softshrink   y = x - s sign(x)     where |x| > s,  else 0
    tanhshrink   y = x - tanh x

Backward. The first two let through what they did not set to 0, at ``|x| = s`` nothing, as PyTorch::

    hard, soft   dL/dx = dL/dy         where |x| > s,  else 0
    tanhshrink   dL/dx = dL/dy tanh^2 x

The soft one is the proximal step of the L1 penalty, which makes it the activation of sparse
coding: Gregor & LeCun (2010), "Learning Fast Approximations of Sparse Coding", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromInput
from manual_bp.layers.tanh import tanh
from manual_bp.ops.add import sub
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class HardshrinkFunction(FromInput):
    """``x`` of any shape; ``lambd``: a number."""

    @staticmethod
    def forward(x: Tensor, lambd: float) -> Tensor:
        return torch.nn.functional.hardshrink(x, lambd)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (lambd,) = ctx.numbers
        if lambd < 0:
            return grad_y, None
        # What was not set to 0 is not 0, and is told from x: y may be modified in place.
        return where_nonzero(torch.nn.functional.hardshrink(x, lambd), grad_y), None


class SoftshrinkFunction(HardshrinkFunction):
    """``x`` of any shape; ``lambd``: a number. The gradient is the other's."""

    @staticmethod
    def forward(x: Tensor, lambd: float) -> Tensor:
        return torch.nn.functional.softshrink(x, lambd)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Set small elements to 0, gradient by hand; as ``torch.nn.functional.hardshrink``.

    Args:
        input: any shape, floating-point
        lambd: up to which absolute value elements become 0

    Returns:
        The shape and dtype of ``input``.
    """
    return HardshrinkFunction.apply(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Move every element towards 0, gradient by hand; as ``torch.nn.functional.softshrink``.

    Args:
        input: any shape, floating-point
        lambd: by how much, at most

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, for a negative ``lambd``.
    """
    return SoftshrinkFunction.apply(input, lambd)


def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)`` with its gradient by hand; as ``torch.nn.functional.tanhshrink``.

    Args:
        input: any shape, floating-point

    Returns:
        The shape and dtype of ``input``.
    """
    return sub(input, tanh(input))


class Hardshrink(torch.nn.Hardshrink):
    """``torch.nn.Hardshrink`` whose gradient is :class:`HardshrinkFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return hardshrink(input, self.lambd)


class Softshrink(torch.nn.Softshrink):
    """``torch.nn.Softshrink`` whose gradient is :class:`SoftshrinkFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return softshrink(input, self.lambd)


class Tanhshrink(torch.nn.Tanhshrink):
    """``torch.nn.Tanhshrink`` whose gradient is that of its difference and its tanh."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return tanhshrink(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.2, label="lambd")
    yield sample(draw.values(-0.5, 0.5, -0.0, 0.0, 1.0), label="kinks", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _hard_samples(draw: Draw) -> Iterator[Sample]:
    yield from _samples(draw)
    yield sample(draw.values(-1.0, -0.0, 0.0), -0.2, label="a negative threshold")


def _tanh_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-0.0, 0.0, 1e-3, 50.0), label="zero and saturated")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -0.5, label="a negative threshold")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.2)


def _tanh_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


HARDSHRINK = Spec(
    name="hardshrink",
    formula="y = x where |x| > s, else 0",
    gradient="dx = dy where |x| > s, else 0",
    manual=hardshrink,
    native=torch.nn.functional.hardshrink,
    overrides=(torch.hardshrink, torch.Tensor.hardshrink),
    samples=_hard_samples,
    modules={Hardshrink: _modules},
    bench=_bench,
)

SOFTSHRINK = Spec(
    name="softshrink",
    formula="y = x - s sign(x) where |x| > s, else 0",
    gradient="dx = dy where |x| > s, else 0",
    manual=softshrink,
    native=torch.nn.functional.softshrink,
    samples=_samples,
    refused=_refused,
    modules={Softshrink: _modules},
    bench=_bench,
)

TANHSHRINK = Spec(
    name="tanhshrink",
    formula="y = x - tanh x",
    gradient="dx = dy tanh^2 x",
    manual=tanhshrink,
    native=torch.nn.functional.tanhshrink,
    samples=_tanh_samples,
    modules={Tanhshrink: _tanh_modules},
    bench=_bench,
)
