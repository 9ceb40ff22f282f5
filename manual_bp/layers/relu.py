r"""ReLU: lets a positive signal through, and its gradient with it.

Forward and backward::

    y = max(x, 0)
    dL/dx = dL/dy  where y > 0,  else 0

At the kink x = 0 any slope between 0 and 1 is a subgradient; like PyTorch, this takes 0. A NaN is
let through in both directions. The sign of ``x`` can be told from ``y``, so ``y`` is what is
kept: the next layer keeps it too, and ``x`` can be freed.

Nair & Hinton (2010), "Rectified Linear Units Improve Restricted Boltzmann Machines", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromOutput
from manual_bp.ops.copy import copy_
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class ReLUFunction(FromOutput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return where_nonzero(y, grad_y)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(x, 0)`` with its gradient by hand; as ``torch.nn.functional.relu``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    y = ReLUFunction.apply(input)
    return copy_(input, y) if inplace else y


def relu_(input: Tensor) -> Tensor:
    """``relu`` in place; as ``Tensor.relu_``."""
    return relu(input, inplace=True)


class ReLU(torch.nn.ReLU):
    """``torch.nn.ReLU`` whose gradient is :class:`ReLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return relu(input, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-1.0, -0.0, 0.0, 1.0, float("inf")), label="kink", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="relu",
    formula="y = max(x, 0)",
    gradient="dx = dy where y > 0, else 0",
    manual=relu,
    native=torch.nn.functional.relu,
    overrides=(torch.relu, torch.Tensor.relu),
    inplace={torch.relu_: relu_, torch.Tensor.relu_: relu_},
    samples=_samples,
    modules={ReLU: _modules},
    bench=_bench,
)
