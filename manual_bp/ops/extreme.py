r"""The largest and the smallest without their places: amax, amin and aminmax.

Forward, over one axis or several::

    y = the largest x_i

Backward: no index says which one it was, so the k that are equal to y share the blame evenly::

    dL/dx_i = dL/dy / k  where x_i = y,  else 0

``max``, ``min`` and ``median`` over all, in :mod:`manual_bp.ops.pick`, share it the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.sum import axes, spread
from manual_bp.spec import Draw, Sample, Spec, sample


class ExtremeFunction(Function):
    """``x``: any shape; ``method``: its name in torch; ``dim``: axes, None where it has none."""

    @staticmethod
    def forward(x: Tensor, method: str, dim: Any, keepdim: bool) -> Tensor:
        arguments = () if dim is None else (dim, keepdim)
        return getattr(torch, method)(x, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.dim, ctx.keepdim = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad_y = spread(grad_y, x.shape, ctx.dim, ctx.keepdim)
        y = spread(y, x.shape, ctx.dim, ctx.keepdim)
        is_it = x == y
        if ctx.dim is None:  # max takes a NaN for the largest; amax leaves NaN to the gradient
            is_it = is_it | (x.isnan() & y.isnan())
        over = axes(ctx.dim, x.dim())
        how_many = is_it.sum(over, keepdim=True) if x.dim() else is_it
        return grad_y * is_it / how_many, None, None, None


def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest over the axes ``dim``; as ``torch.amax``.

    Args:
        input: any shape
        dim: an axis, several, or () for all
        keepdim: leave the axes in place, with size 1

    Raises:
        IndexError: From torch, where there is no such axis, or it is empty.
    """
    return ExtremeFunction.apply(input, "amax", dim, keepdim)


def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest over the axes ``dim``; as ``torch.amin``, arguments as :func:`amax`."""
    return ExtremeFunction.apply(input, "amin", dim, keepdim)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest along ``dim``, or of all; as ``torch.aminmax``."""
    if input.numel() == 0 and (dim is None or input.shape[dim] == 0):
        return torch.aminmax(input, dim=dim, keepdim=keepdim)  # which says what is wrong
    over = tuple(range(input.dim())) if dim is None else dim
    smallest = ExtremeFunction.apply(input, "amin", over, keepdim)
    largest = ExtremeFunction.apply(input, "amax", over, keepdim)
    return torch.return_types.aminmax((smallest, largest))


def _extreme_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), (0, -1), True, label="two axes kept")
    yield sample(draw(4, 3, 2), 1, label="an axis")
    yield sample(draw.values(1.0, 2.0, 2.0, 1.0), 0, label="ties", smooth=False)


def _aminmax_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), dim=1)
    yield sample(draw.values(1.0, 2.0, 2.0, 1.0), label="ties", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")
    yield sample(draw(4, 0), 1, label="an empty axis")


AMAX = Spec(
    name="amax",
    formula="y = the largest x_i",
    gradient="dx_i = dy / k where x_i = y, k of them",
    manual=amax,
    native=torch.amax,
    overrides=(torch.Tensor.amax,),
    samples=_extreme_samples,
    refused=_refused,
)
AMIN = Spec(
    name="amin",
    formula="y = the smallest x_i",
    gradient="dx_i = dy / k where x_i = y, k of them",
    manual=amin,
    native=torch.amin,
    overrides=(torch.Tensor.amin,),
    samples=_extreme_samples,
)
AMINMAX = Spec(
    name="aminmax",
    formula="y = the smallest and the largest x_i",
    gradient="dx_i = dy / k where x_i = y, k of them",
    manual=aminmax,
    native=torch.aminmax,
    overrides=(torch.Tensor.aminmax,),
    samples=_aminmax_samples,
)
