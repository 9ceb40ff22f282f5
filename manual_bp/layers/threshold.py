r"""Threshold: what does not exceed a threshold is replaced by a number.

Forward and backward, with threshold ``t`` and number ``v``::

    y = x          where x > t,  else v
    dL/dx = dL/dy  where x > t,  else 0

A NaN is let through in both directions, as PyTorch does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromInput, widened
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class ThresholdFunction(FromInput):
    """``x`` of any shape; ``threshold`` and ``value``: numbers."""

    @staticmethod
    def forward(x: Tensor, threshold: float, value: float) -> Tensor:
        return torch.threshold(x, threshold, value)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = widened(*ctx.saved_tensors)
        threshold, _ = ctx.numbers
        above = (x - threshold).clamp(min=0)
        return where_nonzero(above, grad_y), None, None


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` above a threshold, else a number; as ``torch.nn.functional.threshold``.

    Args:
        input: any shape, floating-point
        threshold: what an element must exceed
        value: what it becomes otherwise
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    if inplace:
        return copy_(input, ThresholdFunction.apply(clone(input), threshold, value))
    return ThresholdFunction.apply(input, threshold, value)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """``threshold`` in place; as ``torch.threshold_``."""
    return copy_(input, ThresholdFunction.apply(clone(input), threshold, value))


class Threshold(torch.nn.Threshold):
    """``torch.nn.Threshold`` whose gradient is :class:`ThresholdFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return threshold(input, self.threshold, self.value, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.2, -7.0)
    yield sample(draw.values(-1.0, 0.5, 0.6), 0.5, 2.0, label="kink", smooth=False)
    yield sample(draw(0, 3), 0.2, 0.0, label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.2, -7.0)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), 0.2, 0.0)
    yield sample(draw(1024, 2048), 0.2, 0.0)


SPEC = Spec(
    name="threshold",
    formula="y = x where x > t, else v",
    gradient="dx = dy where x > t, else 0",
    manual=threshold,
    native=torch.nn.functional.threshold,
    overrides=(torch.threshold,),
    inplace={torch.threshold_: threshold_},
    samples=_samples,
    modules={Threshold: _modules},
    bench=_bench,
)
