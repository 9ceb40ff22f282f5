r"""Hardtanh and ReLU6: the identity between two bounds, constant outside.

Forward, with bounds ``a`` and ``b`` (-1 and 1; 0 and 6 for ReLU6)::

    y = min(max(x, a), b)

Backward::

    dL/dx = dL/dy  where a < x < b,  else 0

At the kinks x = a and x = b this takes 0, as PyTorch does: the gradient passes where ``y`` is at
neither bound, which is where (y - a) (b - y) is not 0.

Collobert (2004), "Large Scale Machine Learning", chapter 5. ReLU6: Krizhevsky (2010),
"Convolutional Deep Belief Networks on CIFAR-10", section 2.1.
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


class HardtanhFunction(FromInput):
    """``x`` of any shape; ``low`` and ``high``: numbers."""

    @staticmethod
    def forward(x: Tensor, low: float, high: float) -> Tensor:
        return torch.nn.functional.hardtanh(x, low, high)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = widened(*ctx.saved_tensors)
        low, high = ctx.numbers
        y = x.clamp(low, high)  # again: torch keeps x only, so that y may be modified in place
        return where_nonzero((y - low) * (high - y), grad_y), None, None


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """Clamp to two bounds, gradient by hand; as ``torch.nn.functional.hardtanh``.

    Args:
        input: any shape, floating-point
        min_val: lower bound
        max_val: upper bound
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where the lower bound is above the upper.
    """
    if inplace:
        return copy_(input, HardtanhFunction.apply(clone(input), min_val, max_val))
    return HardtanhFunction.apply(input, min_val, max_val)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``hardtanh`` in place; as ``torch.nn.functional.hardtanh_``."""
    return hardtanh(input, min_val, max_val, inplace=True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(x, 0), 6)`` with its gradient by hand; as ``torch.nn.functional.relu6``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    return hardtanh(input, 0.0, 6.0, inplace)


class Hardtanh(torch.nn.Hardtanh):
    """``torch.nn.Hardtanh`` whose gradient is :class:`HardtanhFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return hardtanh(input, self.min_val, self.max_val, self.inplace)


class ReLU6(torch.nn.ReLU6):
    """``torch.nn.ReLU6`` whose gradient is :class:`HardtanhFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return hardtanh(input, self.min_val, self.max_val, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), -0.5, 1.5, label="other bounds")
    yield sample(draw.values(-1.0, -0.0, 1.0, 2.0, float("inf")), label="kinks", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _samples6(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=5.0))
    yield sample(draw.values(-1.0, -0.0, 0.0, 3.0, 6.0, 7.0), label="kinks", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1.0, -1.0, label="bounds crossed")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), -0.5, 1.5)


def _modules6(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=5.0))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


HARDTANH = Spec(
    name="hardtanh",
    formula="y = min(max(x, a), b)",
    gradient="dx = dy where a < x < b, else 0",
    manual=hardtanh,
    native=torch.nn.functional.hardtanh,
    overrides=(torch._C._nn.hardtanh,),
    inplace={
        torch.nn.functional.hardtanh_: hardtanh_,
        torch._C._nn.hardtanh_: hardtanh_,
    },
    samples=_samples,
    refused=_refused,
    modules={Hardtanh: _modules},
    bench=_bench,
)

RELU6 = Spec(
    name="relu6",
    formula="y = min(max(x, 0), 6)",
    gradient="dx = dy where 0 < x < 6, else 0",
    manual=relu6,
    native=torch.nn.functional.relu6,
    samples=_samples6,
    modules={ReLU6: _modules6},
    bench=_bench,
)
