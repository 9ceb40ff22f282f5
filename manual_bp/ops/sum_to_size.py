r"""Sum to a shape that broadcasts: ``Tensor.sum_to_size``, the backward of every broadcast.

Forward, over the axes ``m`` that a tensor of the wanted shape would be repeated along::

    y_n = sum_m x_nm

Backward: expand::

    dL/dx_nm = dL/dy_n
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class SumToSizeFunction(Function):
    """``x``: any shape; ``size``: a shape that broadcasts to it."""

    @staticmethod
    def forward(x: Tensor, size: Any) -> Tensor:
        return x.sum_to_size(size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.expand(ctx.shape), None


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """``input`` summed over axes that ``size`` lacks or has as 1; as ``Tensor.sum_to_size``.

    Args:
        input: any shape
        size: a shape that broadcasts to it

    Returns:
        ``size``; ``input`` itself if it has it.

    Raises:
        RuntimeError: From torch, where ``size`` does not broadcast to the shape.
    """
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    return input if input.shape == shape else SumToSizeFunction.apply(input, shape)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), (4, 1))
    yield sample(draw(4, 3), 1, 3, label="one by one")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 3, label="does not broadcast")


SPEC = Spec(
    name="sum_to_size",
    formula="y_n = sum_m x_nm",
    gradient="dx_nm = dy_n",
    manual=sum_to_size,
    native=torch.Tensor.sum_to_size,
    samples=_samples,
    refused=_refused,
)
