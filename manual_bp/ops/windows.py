r"""Windows along an axis, as a new axis behind all others: ``Tensor.unfold``.

Indices: ``n`` window, ``k`` place in it, step ``s``. Forward, without a copy::

    y_nk = x_(n s + k)

Backward: where windows overlap, an element is seen by several and blamed by each::

    dL/dx_i = sum of dL/dy_nk over n s + k = i
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clone import clone
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


class WindowsFunction(Function):
    """``arguments``: the axis, the size of a window and the step from one to the next."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: int) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, dimension, ctx.size, ctx.step = inputs
        ctx.shape = x.shape
        ctx.dim = dimension % max(x.dim(), 1) - x.dim()  # from the end: vmap puts axes in front

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.shape:  # a number is its own window of one
            return grad_y.reshape(()), *[None] * 4
        parts = grad_y.movedim(-1, ctx.dim)  # k right behind n
        count = parts.shape[ctx.dim - 1]
        starts = torch.arange(count, device=grad_y.device) * ctx.step
        places = starts.unsqueeze(-1) + torch.arange(ctx.size, device=grad_y.device)
        grad_x = grad_y.new_zeros(ctx.shape)
        parts = parts.flatten(ctx.dim - 1, ctx.dim)
        return grad_x.index_add(ctx.dim, places.flatten(), parts), *[None] * 4


def windows(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows along an axis; as ``Tensor.unfold`` (``manual_bp.functional.unfold`` is of images).

    Args:
        input: any shape
        dimension: an axis, S long
        size: of a window
        step: from the start of one to the start of the next

    Returns:
        ``(S - size) // step + 1`` in the place of S, and ``size`` behind all axes; a view.

    Raises:
        RuntimeError: From torch, for a window longer than the axis.
    """
    y = view_of(WindowsFunction, input, "unfold", dimension, size, step)
    # A compiled graph lays the gradient of a view out in memory as the view itself is, and where
    # windows overlap they would overwrite each other's.
    return clone(y) if torch.compiler.is_compiling() else y


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(7, 2), 0, 3, 2)
    yield sample(draw(2, 7), -1, 2, 3, label="gaps")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, 4, 1, label="too long")


SPEC = Spec(
    name="windows",
    formula="y_nk = x_(n s + k)",
    gradient="dx_i = sum of dy_nk over n s + k = i",
    manual=windows,
    native=torch.Tensor.unfold,
    samples=_samples,
    refused=_refused,
)
