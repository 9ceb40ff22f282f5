r"""The same numbers in another order along an axis: flip and roll.

Forward, with i(m) the one of W places along an axis that the m-th is taken from::

    y_m = x_i(m),    flip: i(m) = W - 1 - m        roll by s: i(m) = (m - s) mod W

Backward. Each number is met once, and its gradient is brought back to where it stood::

    dL/dx_i = dL/dy_m  with i(m) = i               flip: a flip        roll: a roll by -s
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class FlipFunction(Function):
    """``dims``: the axes whose order is turned round."""

    @staticmethod
    def forward(x: Tensor, dims: Any) -> Tensor:
        return torch.flip(x, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dims = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.flip(ctx.dims), None


class RollFunction(Function):
    """``shifts``, ``dims``: how far along which axes; no axes for the flattened tensor."""

    @staticmethod
    def forward(x: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
        return torch.roll(x, shifts, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.shifts, ctx.dims = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.roll([-shift for shift in ctx.shifts], ctx.dims), None, None


def flip(input: Tensor, *dims: Any, **named: Any) -> Tensor:
    """The order along ``dims`` turned round; as ``torch.flip``.

    Args:
        input: any shape
        dims: axes
        named: ``dims`` by its name

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    given = (*dims, *named.values())
    axes = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
    return FlipFunction.apply(input, axes)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Shifted along ``dims``, what falls off coming back at the other end; as ``torch.roll``.

    Args:
        input: any shape
        shifts: how far, one for each axis
        dims: axes; None for the flattened tensor
    """
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
    return RollFunction.apply(input, shifts, dims)


def _flip_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (0,))
    yield sample(draw(4, 3, 2), [0, -1], label="two axes")


def _roll_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, 0)
    yield sample(draw(4, 3), (1, -5), (-1, 0), label="two axes")
    yield sample(draw(4, 3), 2, label="flattened")


_FORMULA = "y_m = x_i(m)"
_GRADIENT = "dx_i = sum_{m: i(m) = i} dy_m"

FLIP = Spec(
    name="flip",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=flip,
    native=torch.flip,
    overrides=(torch.Tensor.flip,),
    samples=_flip_samples,
)
ROLL = Spec(
    name="roll",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=roll,
    native=torch.roll,
    overrides=(torch.Tensor.roll,),
    samples=_roll_samples,
)
