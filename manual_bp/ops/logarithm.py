r"""Logarithms: log, log2, log10, log1p, and x ln y.

Forward and backward::

    y = ln x           dL/dx = dL/dy / x
    y = log_b x        dL/dx = dL/dy / (x ln b)     b = 2, 10
    y = ln(1 + x)      dL/dx = dL/dy / (1 + x)

    z = x ln y         dL/dx = dL/dz ln y,  dL/dy = dL/dz x / y      0 ln 0 = 0
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands, unary
from manual_bp.function import FromInput, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample

_float32 = under_autocast("float32", devices=("cuda",))


class LogFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.log(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / x.conj()


class Log2Function(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.log2(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / (x.conj() * math.log(2))


class Log10Function(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.log10(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / (x.conj() * math.log(10))


class Log1pFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.log1p(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y / (x.conj() + 1)


class XlogyFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast, or numbers."""

    @staticmethod
    def forward(x: Any, y: Any) -> Tensor:
        return torch.xlogy(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)

        def by_x() -> Tensor:
            outside = (x == 0) & (torch.as_tensor(y) <= 0)  # 0 ln 0 = 0, whatever x does there
            return torch.xlogy(grad_z, y).masked_fill(outside, 0)

        return asked_for(ctx, by_x, lambda: grad_z * x / y)


@_float32
def log(input: Tensor) -> Tensor:
    """Natural logarithm with its gradient by hand; as ``torch.log``."""
    return LogFunction.apply(input)


@_float32
def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2 with its gradient by hand; as ``torch.log2``."""
    return Log2Function.apply(input)


@_float32
def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10 with its gradient by hand; as ``torch.log10``."""
    return Log10Function.apply(input)


@_float32
def log1p(input: Tensor) -> Tensor:
    """``ln(1 + x)``, precise near 0, with its gradient by hand; as ``torch.log1p``."""
    return Log1pFunction.apply(input)


def xlogy(input: Tensor | float, other: Tensor | float) -> Tensor:
    """``x ln y``, 0 where x is 0, with its gradients by hand; as ``torch.xlogy``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape.
    """
    return XlogyFunction.apply(input, other)


def _positive(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=0.1, high=3.0).requires_grad_())
    yield sample(draw.values(1e-300, 1.0, 1e300), label="tiny and huge", smooth=False)


def _over_minus_one(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=-0.1, high=3.0).requires_grad_())
    yield sample(draw.values(-0.9, -1e-9, 0.0, 1e9), label="near zero, huge", smooth=False)


def _xlogy(draw: Draw) -> Iterator[Sample]:
    positive = draw.uniform(4, 3, low=0.1, high=3.0).requires_grad_()
    yield sample(draw(4, 3), positive)
    yield sample(draw(4, 1), draw.values(0.5, 1.0, 2.0), label="broadcast")
    yield sample(draw(4, 3), 2.0, label="a number")
    yield sample(2.0, draw.values(0.5, 3.0), label="a number first")
    yield sample(draw.values(0.0, 0.0), draw.values(-1.0, 2.0), label="zero", smooth=False)


def _pair_bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        x, y = (draw.uniform(*shape, low=0.1).requires_grad_() for _ in range(2))
        yield sample(x, y)


LOG = unary(log, "y = ln x", "dx = dy / x", _positive, shift=2.0)
LOG2 = unary(log2, "y = log_2 x", "dx = dy / (x ln 2)", _positive, shift=2.0)
LOG10 = unary(log10, "y = log_10 x", "dx = dy / (x ln 10)", _positive, shift=2.0)
LOG1P = unary(
    log1p, "y = ln(1 + x)", "dx = dy / (1 + x)", _over_minus_one, torch.special.log1p, shift=1.0
)
XLOGY = Spec(
    name="xlogy",
    formula="z = x ln y",
    gradient="dx = dz ln y,  dy = dz x / y",
    manual=xlogy,
    native=torch.xlogy,
    overrides=(torch.Tensor.xlogy, torch.special.xlogy),
    inplace=dict.fromkeys((torch.Tensor.xlogy_, torch.xlogy_), in_place(xlogy)),
    samples=_xlogy,
    bench=_pair_bench,
)
