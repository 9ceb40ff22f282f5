r"""Remainders of a division: fmod and remainder, which is ``%``.

Forward, with q a quotient that was rounded to an integer::

    z = x - y q        q = x / y rounded to 0: fmod, the sign of x
                       q = x / y rounded down: remainder, the sign of y

Backward. q is flat between its jumps and counts as a constant, which leaves a line::

    dL/dx = dL/dz
    dL/dy = -dL/dz q

each summed over the axes along which the operand was repeated. At a jump z falls from y to 0, and
no slope tells of it: of an angle taken ``% (2 pi)`` the gradient knows one turn alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.spec import Draw, Sample, Spec, sample


class FmodFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast, or ``y`` a number."""

    @staticmethod
    def forward(x: Tensor, y: Tensor | float) -> Tensor:
        return torch.fmod(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        return asked_for(
            ctx, lambda: grad_z, lambda: -grad_z * torch.div(x, y, rounding_mode="trunc")
        )


class RemainderFunction(FromInputs):
    """``x`` and ``y``: tensors whose shapes broadcast, or one of them a number."""

    @staticmethod
    def forward(x: Any, y: Any) -> Tensor:
        return torch.remainder(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = operands(ctx)
        x = torch.as_tensor(x)
        return asked_for(
            ctx, lambda: grad_z, lambda: -grad_z * torch.div(x, y, rounding_mode="floor")
        )


def fmod(input: Tensor, other: Tensor | float) -> Tensor:
    """What is left of ``input / other``, with the sign of ``input``; as ``torch.fmod``.

    Args:
        input: any shape
        other: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, where the shapes do not broadcast.
    """
    return FmodFunction.apply(input, other)


def remainder(input: Tensor | float, other: Tensor | float) -> Tensor:
    """What is left of ``input / other``, with the sign of ``other``; as ``torch.remainder``.

    Args:
        input: any shape, or a number, of which torch has no gradient by ``other``
        other: a shape that broadcasts with ``input``'s, or a number

    Returns:
        The broadcast shape, in the promoted dtype.

    Raises:
        RuntimeError: From torch, where the shapes do not broadcast.
    """
    return RemainderFunction.apply(input, other)


def _rmod(input: Tensor, other: Tensor | float) -> Tensor:
    """With the arguments of ``Tensor.__rmod__``: of ``2 % x``, ``x`` comes first."""
    return RemainderFunction.apply(other, input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, scale=3.0), draw(4, 3, shift=3.0))
    yield sample(draw(4, 3, scale=3.0), draw.values(-0.7, 1.1, 2.3), label="broadcast")
    yield sample(draw(4, 3, scale=3.0), -0.7, label="a number")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="shapes differ")


def _bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape, scale=3.0), draw(*shape, shift=5.0))


FMOD = Spec(
    name="fmod",
    formula="z = x - y trunc(x / y)",
    gradient="dx = dz,  dy = -dz trunc(x / y)",
    manual=fmod,
    native=torch.fmod,
    overrides=(torch.Tensor.fmod,),
    inplace={torch.Tensor.fmod_: in_place(fmod)},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
REMAINDER = Spec(
    name="remainder",
    formula="z = x - y floor(x / y)",
    gradient="dx = dz,  dy = -dz floor(x / y)",
    manual=remainder,
    native=torch.remainder,
    overrides=(torch.Tensor.remainder, torch.Tensor.__mod__),
    inplace={
        torch.Tensor.__rmod__: _rmod,
        torch.Tensor.remainder_: in_place(remainder),
        torch.Tensor.__imod__: in_place(remainder),
    },
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
