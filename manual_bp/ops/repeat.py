r"""The same numbers several times: repeat, tile and repeat_interleave.

Forward, with i(m) the place that the m-th element of the result is taken from::

    y_m = x_i(m)        repeat and tile: x_1 x_2 x_1 x_2,  repeat_interleave: x_1 x_1 x_2 x_2

Backward: as everywhere, what was used is blamed, once for each use::

    dL/dx_i = sum_{m: i(m) = i} dL/dy_m

For repeat that is a sum over the repetitions; repeat_interleave is an ``index_select`` by i, and
has its backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.index_select import index_select
from manual_bp.ops.view import flatten
from manual_bp.spec import Draw, Sample, Spec, sample


class RepeatFunction(Function):
    """``repeats``: how often along each axis; more of them than axes put new ones in front."""

    @staticmethod
    def forward(x: Tensor, repeats: list[int]) -> Tensor:
        return x.repeat(repeats)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.repeats = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        new = len(ctx.repeats) - len(ctx.shape)
        sizes = [*[1] * new, *ctx.shape]
        # An axis of R times S splits into R and S; the sum over every R is left with the S.
        split = [part for pair in zip(ctx.repeats, sizes, strict=True) for part in pair]
        if not split:
            return grad_y, None
        every_repetition = list(range(0, len(split), 2))
        return grad_y.reshape(split).sum(every_repetition).view(ctx.shape), None


def repeat(input: Tensor, *repeats: Any, **named: Any) -> Tensor:
    """Laid side by side ``repeats`` times along each axis; as ``Tensor.repeat``.

    Args:
        input: any shape
        repeats: how often along each axis, with more in front for new axes
        named: ``repeats`` by its name

    Raises:
        RuntimeError: From torch, where there are fewer than axes.
    """
    times = _several((*repeats, *named.values()))
    return RepeatFunction.apply(input, list(times))


def tile(input: Tensor, *dims: Any) -> Tensor:
    """``repeat`` where missing axes count once; as ``torch.tile``."""
    times = list(_several(dims))
    return RepeatFunction.apply(input, [1] * (input.dim() - len(times)) + times)


def _several(given: tuple[Any, ...]) -> Any:
    """One list, or the integers as they were given one by one."""
    return given[0] if len(given) == 1 and not isinstance(given[0], int) else given


def repeat_interleave(
    input: Tensor, repeats: int | Tensor, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element along ``dim`` repeated at once; as ``torch.repeat_interleave``.

    Args:
        input: any shape
        repeats: how often, one for all or one for each
        dim: an axis, or None for the flattened tensor
        output_size: the size along ``dim`` that comes out, where it is known
    """
    if dim is None:
        input, dim = flatten(input), 0
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = int(repeats)
    if isinstance(repeats, Tensor):
        places = torch.repeat_interleave(repeats, output_size=output_size)
    else:
        places = torch.arange(input.shape[dim], device=input.device).repeat_interleave(repeats)
    return index_select(input, dim, places)


def _repeat_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 1, 3)
    yield sample(draw(4, 3), (1, 2), label="a tuple")
    yield sample(draw(), 3, label="no axis")


def _tile_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (2,))
    yield sample(draw(3), (2, 2), label="a new axis")


def _interleave_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2)
    yield sample(draw(4, 3), 3, -1, label="an axis")


_FORMULA = "y_m = x_i(m)"
_GRADIENT = "dx_i = sum_{m: i(m) = i} dy_m"

REPEAT = Spec(
    name="repeat",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=repeat,
    native=torch.Tensor.repeat,
    samples=_repeat_samples,
)
TILE = Spec(
    name="tile",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=tile,
    native=torch.tile,
    overrides=(torch.Tensor.tile,),
    samples=_tile_samples,
)
REPEAT_INTERLEAVE = Spec(
    name="repeat_interleave",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=repeat_interleave,
    native=torch.repeat_interleave,
    overrides=(torch.Tensor.repeat_interleave,),
    samples=_interleave_samples,
)
