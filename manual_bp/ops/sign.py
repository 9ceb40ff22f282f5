r"""Absolute value, negation and sign; rounding, whose gradient is 0.

Forward and backward::

    y = |x|                        dL/dx = dL/dy sign(x)     0 at the kink x = 0, as PyTorch
    y = -x                         dL/dx = -dL/dy
    y = sign, round, floor, ceil, trunc of x     dL/dx = 0
    y = x - trunc x                dL/dx = dL/dy             frac

A staircase is flat almost everywhere, and at its steps has no slope at all: nothing can be learned
through it. Quantized nets pretend the slope to be 1 instead (straight-through, gumbel_softmax.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, FromNeither, Function
from manual_bp.spec import Draw, Sample, sample


class AbsFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.abs(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * x.sgn()


class NegFunction(FromNeither):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.neg(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return -grad_y


class StairsFunction(Function):
    """``x`` of any shape; ``round_off``: what gives each element its step."""

    @staticmethod
    def forward(x: Tensor, round_off: Any, *numbers: int) -> Tensor:
        return round_off(x, decimals=numbers[0]) if numbers else round_off(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.others = len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return torch.zeros_like(grad_y), *[None] * ctx.others


class FracFunction(FromNeither):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.frac(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y


def abs(input: Tensor) -> Tensor:
    """Absolute value with its gradient by hand; as ``torch.abs``."""
    return AbsFunction.apply(input)


def neg(input: Tensor) -> Tensor:
    """``-x`` with its gradient by hand; as ``torch.neg``."""
    return NegFunction.apply(input)


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1, with gradient 0; as ``torch.sign``."""
    return StairsFunction.apply(input, torch.sign)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Round, half to even, with gradient 0; as ``torch.round``.

    Args:
        input: any shape
        decimals: digits after the point that are kept

    Returns:
        The shape and dtype of ``input``.
    """
    return StairsFunction.apply(input, torch.round, *[decimals] * bool(decimals))


def floor(input: Tensor) -> Tensor:
    """Round down, with gradient 0; as ``torch.floor``."""
    return StairsFunction.apply(input, torch.floor)


def ceil(input: Tensor) -> Tensor:
    """Round up, with gradient 0; as ``torch.ceil``."""
    return StairsFunction.apply(input, torch.ceil)


def trunc(input: Tensor) -> Tensor:
    """Round towards 0, with gradient 0; as ``torch.trunc``."""
    return StairsFunction.apply(input, torch.trunc)


def frac(input: Tensor) -> Tensor:
    """What ``trunc`` cuts off, with its gradient by hand; as ``torch.frac``."""
    return FracFunction.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-1.0, -0.0, 0.0, 2.0), label="zero", smooth=False)


def _stairs(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=3.0))
    yield sample(draw.values(-1.5, -0.0, 0.5, 2.0), label="steps", smooth=False)


def _round(draw: Draw) -> Iterator[Sample]:
    yield from _stairs(draw)
    yield sample(draw(4, 3, scale=3.0), decimals=2, label="decimals", smooth=False)


_T = torch.Tensor
ABS = unary(abs, "y = |x|", "dx = dy sign(x)", _real, torch.absolute, _T.absolute, _T.__abs__)
NEG = unary(neg, "y = -x", "dx = -dy", _real, torch.negative, _T.negative, _T.__neg__)
SIGN = unary(sign, "y = sign x", "dx = 0", _stairs)
ROUND = unary(round, "y = x, rounded", "dx = 0", _round, torch.special.round)
FLOOR = unary(floor, "y = x, rounded down", "dx = 0", _stairs)
CEIL = unary(ceil, "y = x, rounded up", "dx = 0", _stairs)
TRUNC = unary(trunc, "y = x, rounded to 0", "dx = 0", _stairs, torch.fix, _T.fix)
FRAC = unary(frac, "y = x - trunc x", "dx = dy", _stairs)
