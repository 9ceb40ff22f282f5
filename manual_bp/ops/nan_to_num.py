r"""nan_to_num: numbers in place of NaN and the infinities.

Forward and backward::

    y = x  where x is finite, else a number
    dL/dx = dL/dy  where x is finite, else 0

The gradient through a replaced element is cut, but only from here on: a NaN that an earlier
operation made comes back as 0 times its infinite slope, which is NaN again. It has to be kept from
arising, not replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromInput, of_real_numbers
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, sample


class NanToNumFunction(FromInput):
    """``x`` of any shape; ``nan``, ``posinf``, ``neginf``: numbers, or None."""

    @staticmethod
    def forward(x: Tensor, nan: float | None, posinf: float | None, neginf: float | None) -> Tensor:
        return torch.nan_to_num(x, nan, posinf, neginf)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return where_nonzero(x.isfinite(), grad_y), None, None, None


@of_real_numbers(torch.nan_to_num)
def nan_to_num(
    input: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """Numbers in place of NaN and infinities, gradient by hand; as ``torch.nan_to_num``.

    Args:
        input: any shape
        nan: in place of NaN; None for 0
        posinf: in place of infinity; None for the largest number of the dtype
        neginf: in place of -infinity; None for the smallest

    Returns:
        The shape and dtype of ``input``.
    """
    return NanToNumFunction.apply(input, nan, posinf, neginf)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    odd = draw.values(1.0, float("nan"), float("inf"), float("-inf"))
    yield sample(odd, label="replaced", smooth=False)
    yield sample(odd, 1.0, 2.0, -3.0, label="by other numbers", smooth=False)


NAN_TO_NUM = unary(
    nan_to_num, "y = x where finite, else a number", "dx = dy where x is finite", _samples
)
