r"""Functions of probabilities: logit, the log-odds; entr, the terms of an entropy; xlog1py.

Forward and backward::

    y = ln(x / (1 - x))        dL/dx = dL/dy / (x (1 - x))       logit, inverse of the sigmoid
    y = -x ln x                dL/dx = -dL/dy (ln x + 1)         0 ln 0 = 0
    z = x ln(1 + y)            dL/dx = dL/dz ln(1 + y)           0 ln 0 = 0
                               dL/dy = dL/dz x / (1 + y)

The sigmoid's slope is s (1 - s); that of its inverse is the inverse. With ``eps``, logit takes x
clamped to [eps, 1 - eps], and outside of it x does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, operands, times_slope, unary
from manual_bp.function import FromInput, is_recorded
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class LogitFunction(FromInput):
    """``x`` of any shape; ``eps``: a number, or None."""

    @staticmethod
    def forward(x: Tensor, eps: float | None) -> Tensor:
        return torch.logit(x, eps)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (eps,) = ctx.numbers
        if eps is not None:
            return where_nonzero((x >= eps) & (x <= 1 - eps), grad_y / (x * (1 - x))), None
        if is_recorded():
            return grad_y * (x * (1 - x)).rsqrt().square(), None
        return times_slope(grad_y, _slope, x), None


def _slope(x: Tensor) -> Tensor:
    """``1 / (x (1 - x))``; by its root, which is NaN beyond 0 and 1, and quicker than a mask."""
    return (1 - x).mul_(x).rsqrt_().square_()


class EntrFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.special.entr(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (-x.log() - 1)


class Xlog1pyFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast, or one of them a number."""

    @staticmethod
    def forward(x: Any, y: Any) -> Tensor:
        return torch.special.xlog1py(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)

        def by_x() -> Tensor:
            outside = (x == 0) & (torch.as_tensor(y) <= -1)  # 0 ln 0 = 0, whatever x does there
            return torch.special.xlog1py(grad_z, y).masked_fill(outside, 0)

        return asked_for(ctx, by_x, lambda: grad_z * x / (y + 1))


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``ln(x / (1 - x))`` with its gradient by hand; as ``torch.logit``.

    Args:
        input: any shape; outside of [0, 1] the result and the gradient are NaN
        eps: what ``input`` is kept away from 0 and 1 by

    Returns:
        The shape of ``input``.
    """
    return LogitFunction.apply(input, eps)


def entr(input: Tensor) -> Tensor:
    """``-x ln x``, 0 at 0 and -inf below, gradient by hand; as ``torch.special.entr``."""
    return EntrFunction.apply(input)


def xlog1py(input: Tensor | float, other: Tensor | float) -> Tensor:
    """``x ln(1 + y)``, 0 where x is 0, gradients by hand; as ``torch.special.xlog1py``.

    Args:
        input: any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape.
    """
    return Xlog1pyFunction.apply(input, other)


def _shares(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=0.05, high=0.95).requires_grad_())
    yield sample(draw.values(0.0, 1e-9, 1.0), label="at the ends", smooth=False)


def _logit(draw: Draw) -> Iterator[Sample]:
    yield from _shares(draw)
    yield sample(draw.values(-0.5, 0.1, 0.3, 0.9, 1.5), 0.1, label="clamped", smooth=False)


def _pair(draw: Draw) -> Iterator[Sample]:
    y = draw.uniform(4, 3, low=-0.5, high=2.0).requires_grad_()
    yield sample(draw(4, 3), y)
    yield sample(draw(4, 1), draw.values(0.5, 1.0, 2.0), label="broadcast")
    yield sample(draw(4, 3), 2.0, label="a number")
    yield sample(2.0, draw.values(0.5, 3.0), label="a number first")
    yield sample(draw.values(0.0, 0.0), draw.values(-2.0, 1.0), label="zero", smooth=False)


LOGIT = unary(
    logit,
    "y = ln(x / (1 - x))",
    "dx = dy / (x (1 - x))",
    _logit,
    torch.special.logit,
    scale=0.4,
    shift=0.5,
)
ENTR = unary(entr, "y = -x ln x", "dx = -dy (ln x + 1)", _shares, scale=0.4, shift=0.5)
XLOG1PY = Spec(
    name="xlog1py",
    formula="z = x ln(1 + y)",
    gradient="dx = dz ln(1 + y),  dy = dz x / (1 + y)",
    manual=xlog1py,
    native=torch.special.xlog1py,
    samples=_pair,
)
