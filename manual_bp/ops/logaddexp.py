r"""A sum in logarithms: logaddexp and logaddexp2.

Forward and backward::

    z = ln(e^x + e^y)          dL/dx = dL/dz / (1 + e^(y - x)),  dL/dy = dL/dz / (1 + e^(x - y))
    z = log_2(2^x + 2^y)       likewise with 2 for e

It is softmax for two: the slopes are the shares of x and y, and add up to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, operands
from manual_bp.spec import Draw, Sample, Spec, sample


class LogaddexpFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.logaddexp(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        return asked_for(
            ctx,
            lambda: grad_z / (1 + torch.exp(y - x)).conj(),
            lambda: grad_z / (1 + torch.exp(x - y)).conj(),
        )


class Logaddexp2Function(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.logaddexp2(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        return asked_for(
            ctx,
            lambda: grad_z / (1 + torch.exp2(y - x)),
            lambda: grad_z / (1 + torch.exp2(x - y)),
        )


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """``ln(e^x + e^y)`` without overflow, gradients by hand; as ``torch.logaddexp``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s

    Returns:
        The broadcast shape.
    """
    return LogaddexpFunction.apply(input, other)


def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """``log2(2^x + 2^y)`` without overflow, gradients by hand; as ``torch.logaddexp2``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s

    Returns:
        The broadcast shape.
    """
    return Logaddexp2Function.apply(input, other)


def _pair(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    yield sample(draw.values(800.0, -800.0, 1.0), draw.values(-800.0, -801.0, 1.0), label="far")


def _pair_bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        x, y = (draw.uniform(*shape, low=0.1).requires_grad_() for _ in range(2))
        yield sample(x, y)


LOGADDEXP = Spec(
    name="logaddexp",
    formula="z = ln(e^x + e^y)",
    gradient="dx = dz / (1 + e^(y - x)),  dy likewise",
    manual=logaddexp,
    native=torch.logaddexp,
    overrides=(torch.Tensor.logaddexp,),
    samples=_pair,
    bench=_pair_bench,
)
LOGADDEXP2 = Spec(
    name="logaddexp2",
    formula="z = log_2(2^x + 2^y)",
    gradient="dx = dz / (1 + 2^(y - x)),  dy likewise",
    manual=logaddexp2,
    native=torch.logaddexp2,
    overrides=(torch.Tensor.logaddexp2,),
    samples=_pair,
    bench=_pair_bench,
)
