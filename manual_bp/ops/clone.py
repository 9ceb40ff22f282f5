r"""Clone and contiguous: the same numbers in memory of their own.

Forward and backward::

    y = x
    dL/dx = dL/dy
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class CloneFunction(Function):
    """``x``: any shape; ``memory_format``: how the copy lies in memory."""

    @staticmethod
    def forward(x: Tensor, memory_format: torch.memory_format) -> Tensor:
        return x.clone(memory_format=memory_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y, None


def clone(input: Tensor, *, memory_format: torch.memory_format | None = None) -> Tensor:
    """A copy of ``input``; as ``torch.clone``.

    Args:
        input: any shape
        memory_format: how the copy lies in memory; None and ``torch.preserve_format``: as ``input``
    """
    return CloneFunction.apply(input, memory_format or torch.preserve_format)


def contiguous(
    input: Tensor, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """``input`` itself if it lies so in memory, or else a copy; as ``Tensor.contiguous``."""
    if input.is_contiguous(memory_format=memory_format):
        return input
    return CloneFunction.apply(input, memory_format)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 4, 3, 5), memory_format=torch.channels_last, label="channels last")


def _contiguous_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.fixed(3, 4).T.requires_grad_())
    yield sample(draw(2, 4, 3, 5), memory_format=torch.channels_last, label="channels last")


CLONE = Spec(
    name="clone",
    formula="y = x",
    gradient="dx = dy",
    manual=clone,
    native=torch.clone,
    overrides=(torch.Tensor.clone,),
    samples=_samples,
)
CONTIGUOUS = Spec(
    name="contiguous",
    formula="y = x",
    gradient="dx = dy",
    manual=contiguous,
    native=torch.Tensor.contiguous,
    samples=_contiguous_samples,
)
