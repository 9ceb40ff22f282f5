r"""Clone: the same numbers in memory of their own, and the same gradient.

Forward and backward::

    y = x
    dL/dx = dL/dy

An in-place form of an operation whose gradient is told from ``x`` works on a clone of ``x``: what
is about to be overwritten is what the backward needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class CloneFunction(Function):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor, memory_format: torch.memory_format) -> Tensor:
        return x.clone(memory_format=memory_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is needed."""

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y, None


def clone(input: Tensor, *, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """Return a copy of ``input`` with its gradient by hand; as ``torch.clone``.

    Args:
        input: any shape
        memory_format: of the copy

    Returns:
        The shape and dtype of ``input``.
    """
    return CloneFunction.apply(input, memory_format)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 3, 4, 5), memory_format=torch.channels_last, label="channels last")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="clone",
    formula="y = x",
    gradient="dx = dy",
    manual=clone,
    native=torch.clone,
    overrides=(torch.Tensor.clone,),
    samples=_samples,
    bench=_bench,
)
