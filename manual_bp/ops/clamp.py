r"""Clamp to bounds; the larger and the smaller of two tensors.

Forward and backward, bounds ``a`` and ``b`` being numbers or tensors::

    z = min(max(x, a), b)     dL/dx = dL/dz  where a <= x <= b,     else 0
                              dL/da = dL/dz  where x < a < b,       else 0
                              dL/db = dL/dz  where x > b or b < a,  else 0

    z = max(x, y)             dL/dx = dL/dz  where x > y,  half of it where x = y,  else 0
                              dL/dy likewise

Blame goes to the one that was chosen. At a bound the gradient passes, and a tie is shared: so does
PyTorch. maximum lets a NaN win and gives both their gradient there; fmax lets a number win, and a
tie is x's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class ClampFunction(FromInputs):
    """``x``: any shape; ``low`` and ``high``: tensors that broadcast with it, numbers, None."""

    @staticmethod
    def forward(x: Tensor, low: Any, high: Any) -> Tensor:
        return torch.clamp(x, low, high)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, low, high = operands(ctx)

        def by_x() -> Tensor:
            if low is None or high is None:
                return where_nonzero(x <= high if low is None else x >= low, grad_z)
            return where_nonzero((x >= low) & (x <= high), grad_z)

        def by_low() -> Tensor:
            below = x < low
            return where_nonzero(below if high is None else below & (low < high), grad_z)

        def by_high() -> Tensor:
            above = x > high
            return where_nonzero(above if low is None else above | (high < low), grad_z)

        return asked_for(ctx, by_x, by_low, by_high)


class MaximumFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.maximum(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        share = torch.where(x == y, grad_z / 2, grad_z)
        return asked_for(
            ctx,
            lambda: where_nonzero((x < y).logical_not(), share),
            lambda: where_nonzero((x > y).logical_not(), share),
        )


class MinimumFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.minimum(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        share = torch.where(x == y, grad_z / 2, grad_z)
        return asked_for(
            ctx,
            lambda: where_nonzero((x > y).logical_not(), share),
            lambda: where_nonzero((x < y).logical_not(), share),
        )


class FmaxFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.fmax(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        first = (x >= y) | y.isnan()
        return asked_for(
            ctx,
            lambda: where_nonzero(first, grad_z),
            lambda: where_nonzero(first.logical_not(), grad_z),
        )


class FminFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.fmin(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        first = (x <= y) | y.isnan()
        return asked_for(
            ctx,
            lambda: where_nonzero(first, grad_z),
            lambda: where_nonzero(first.logical_not(), grad_z),
        )


def clamp(
    input: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None
) -> Tensor:
    """``min(max(x, a), b)`` with its gradients by hand; as ``torch.clamp``.

    Args:
        input: any shape
        min: lower bound, a number or a tensor that broadcasts with ``input``; None for none
        max: upper bound, likewise

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, where there is no bound at all.
    """
    return ClampFunction.apply(input, min, max)


def clamp_min(input: Tensor, min: Tensor | float) -> Tensor:
    """``max(x, a)`` with its gradients by hand; as ``torch.clamp_min``."""
    return ClampFunction.apply(input, min, None)


def clamp_max(input: Tensor, max: Tensor | float) -> Tensor:
    """``min(x, b)`` with its gradients by hand; as ``torch.clamp_max``."""
    return ClampFunction.apply(input, None, max)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two, a tie shared, gradients by hand; as ``torch.maximum``."""
    return MaximumFunction.apply(input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two, a tie shared, gradients by hand; as ``torch.minimum``."""
    return MinimumFunction.apply(input, other)


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two, or the one that is a number; as ``torch.fmax``."""
    return FmaxFunction.apply(input, other)


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two, or the one that is a number; as ``torch.fmin``."""
    return FminFunction.apply(input, other)


def _clamp(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -0.5, 0.7)
    yield sample(draw(4, 3), max=0.3, label="from above")
    yield sample(draw(4, 3), draw(3), draw(4, 1), label="tensors")
    yield sample(draw(4, 3), draw(4, 3), label="a tensor from below")
    yield sample(draw.values(-1.0, 0.0, 1.0, 2.0), 0.0, 1.0, label="at the bounds", smooth=False)
    low, high = draw.values(0.0, 1.0, 2.0), draw.values(1.0, 1.0, 1.0)
    yield sample(draw.values(0.0, 1.0, 1.5), low, high, label="bounds meet", smooth=False)


def _clamp_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), label="no bound")


def _one_bound(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.3)
    yield sample(draw(4, 3), draw(3), label="a tensor")
    yield sample(draw.values(-1.0, 0.0, 1.0), 0.0, label="at the bound", smooth=False)


def _pair(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), label="both broadcast")
    yield sample(draw.values(0.0, -0.0, 1.0), draw.values(0.0, 0.0, 1.0), label="tie", smooth=False)


def _clamp_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), -0.5, 0.7)
    yield sample(draw(1024, 2048), -0.5, 0.7)


def _pair_bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape), draw(*shape))


_T = torch.Tensor

CLAMP = Spec(
    name="clamp",
    formula="z = min(max(x, a), b)",
    gradient="dx = dz where a <= x <= b, else 0",
    manual=clamp,
    native=torch.clamp,
    overrides=(_T.clamp, torch.clip, _T.clip),
    inplace=dict.fromkeys((torch.clamp_, _T.clamp_, torch.clip_, _T.clip_), in_place(clamp)),
    samples=_clamp,
    refused=_clamp_refused,
    bench=_clamp_bench,
)
CLAMP_MIN = Spec(
    name="clamp_min",
    formula="z = max(x, a)",
    gradient="dx = dz where x >= a, else 0",
    manual=clamp_min,
    native=torch.clamp_min,
    overrides=(_T.clamp_min,),
    inplace=dict.fromkeys((torch.clamp_min_, _T.clamp_min_), in_place(clamp_min)),
    samples=_one_bound,
)
CLAMP_MAX = Spec(
    name="clamp_max",
    formula="z = min(x, b)",
    gradient="dx = dz where x <= b, else 0",
    manual=clamp_max,
    native=torch.clamp_max,
    overrides=(_T.clamp_max,),
    inplace=dict.fromkeys((torch.clamp_max_, _T.clamp_max_), in_place(clamp_max)),
    samples=_one_bound,
)


def _of_two(manual: Callable[..., Tensor], formula: str, gradient: str) -> Spec:
    name = manual.__name__
    return Spec(
        name=name,
        formula=formula,
        gradient=gradient,
        manual=manual,
        native=getattr(torch, name),
        overrides=(getattr(_T, name),),
        samples=_pair,
        bench=_pair_bench,
    )


MAXIMUM = _of_two(maximum, "z = max(x, y)", "dx = dz where x > y, dz / 2 where x = y")
MINIMUM = _of_two(minimum, "z = min(x, y)", "dx = dz where x < y, dz / 2 where x = y")
FMAX = _of_two(fmax, "z = max(x, y), no NaN", "dx = dz where x >= y")
FMIN = _of_two(fmin, "z = min(x, y), no NaN", "dx = dz where x <= y")
