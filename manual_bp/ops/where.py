r"""Where: each element from one of two tensors; masked_fill: some elements set to a number.

Forward, for a condition c that broadcasts with ``x`` and ``y``::

    z = x  where c,  else y

Backward: blame goes to the one that was taken::

    dL/dx = dL/dz where c, else 0      summed over the axes along which x was repeated
    dL/dy = 0 where c, else dL/dz      likewise for y

The zero is a zero even where dL/dz is infinite: a multiplication by 0 would make it a NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded
from manual_bp.ops.copy import copy_
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def where_nonzero(mask: Tensor, grad: Tensor) -> Tensor:
    """``grad`` where ``mask`` is not 0 (a NaN is not), else 0, in memory of its own.

    The kernel of ``torch.where`` on the CPU branches at every element; a processor that has to
    guess the branch guesses wrong half the time, which costs ten passes over memory. To multiply
    the bits of ``grad``, read as an integer, by 0 or 1 gives the same and takes no guess.
    """
    integer = _INTEGERS.get(grad.element_size())
    if is_recorded() or not grad.is_cpu or integer is None:
        return torch.where(mask.bool(), grad, grad.new_zeros(()))
    if mask.shape != grad.shape:
        mask = mask.expand(grad.shape)
    return mask.bool().to(integer).mul_(grad.view(integer)).view(grad.dtype)


class WhereFunction(Function):
    """``condition``: bool; ``x`` and ``y``: tensors that broadcast with it, or numbers."""

    @staticmethod
    def forward(condition: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
        return torch.where(condition, x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        condition, x, y = inputs
        ctx.x, ctx.y = kind(x), kind(y)
        ctx.save_for_backward(condition)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        (condition,) = ctx.saved_tensors
        grad_x = grad_y = None
        if ctx.needs_input_grad[1]:
            grad_x = reduced(where_nonzero(condition, grad_z), *ctx.x)
        if ctx.needs_input_grad[2]:
            grad_y = reduced(where_nonzero(condition.logical_not(), grad_z), *ctx.y)
        return None, grad_x, grad_y


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition``, else ``other``, gradients by hand; as ``torch.where``.

    Args:
        condition: bool
        input: a shape that broadcasts with the others, or a number
        other: a shape that broadcasts with the others, or a number

    Returns:
        The broadcast shape, in the promoted dtype; without ``input`` and ``other`` the indices
        of the elements that are not zero.

    Raises:
        RuntimeError: From torch, where the shapes do not broadcast.
    """
    if input is None and other is None:
        return torch.where(condition)
    return WhereFunction.apply(condition, input, other)


def _where_of(input: Tensor, condition: Tensor, other: Any) -> Tensor:
    """With the arguments of ``Tensor.where``."""
    return WhereFunction.apply(condition, input, other)


def masked_fill(input: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """``value`` where ``mask``, else ``input``, gradients by hand; as ``Tensor.masked_fill``.

    Args:
        input: a shape that broadcasts with ``mask``'s
        mask: bool
        value: a number, or a tensor without axes

    Returns:
        The broadcast shape, in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where ``value`` has axes or the shapes do not broadcast.
    """
    return MaskedFillFunction.apply(input, mask, value)


class MaskedFillFunction(Function):
    """``x``: any shape; ``mask``: bool; ``value``: a number or a tensor without axes."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
        return x.masked_fill(mask, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, mask, value = inputs
        ctx.x, ctx.value = kind(x), kind(value)
        ctx.save_for_backward(mask)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        grad_x = grad_value = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced(where_nonzero(mask.logical_not(), grad_y), *ctx.x)
        if ctx.needs_input_grad[2]:
            grad_value = reduced(where_nonzero(mask, grad_y), *ctx.value)
        return grad_x, None, grad_value


def masked_fill_(input: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """``masked_fill`` in place; as ``Tensor.masked_fill_``."""
    return copy_(input, masked_fill(input, mask, value))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.fixed(4, 3) > 0, draw(4, 3), draw(4, 3))
    yield sample(draw.fixed(4, 1) > 0, draw(3), draw(2, 1, 1), label="broadcast")
    yield sample(draw.fixed(4, 3) > 0, draw(4, 3), 0.0, label="a number")
    yield sample(draw.fixed(0, 3) > 0, draw(0, 3), draw(3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.fixed(4, 3) > 0, draw(4), draw(3), label="shapes differ")


def _fill_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 3) > 0, -1e9)
    yield sample(draw(2, 4, 3), draw.fixed(4, 1) > 0, draw(), label="a tensor, broadcast")
    yield sample(draw(4, 1), draw.fixed(4, 3) > 0, 2.0, label="the input broadcast")


def _fill_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 3) > 0, draw(2), label="a value with an axis")


def _bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw.fixed(*shape) > 0, draw(*shape), draw(*shape))


def _fill_bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape), draw.fixed(*shape) > 0, 0.0)


WHERE = Spec(
    name="where",
    formula="z = x where c, else y",
    gradient="dx = dz where c,  dy = dz where not c, summed over broadcast axes",
    manual=where,
    native=torch.where,
    inplace={torch.Tensor.where: _where_of},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)

MASKED_FILL = Spec(
    name="masked_fill",
    formula="y = v where m, else x",
    gradient="dx = dy where not m,  dv = sum of dy where m",
    manual=masked_fill,
    native=torch.masked_fill,
    overrides=(torch.Tensor.masked_fill,),
    inplace={torch.Tensor.masked_fill_: masked_fill_},
    samples=_fill_samples,
    refused=_fill_refused,
    bench=_fill_bench,
)
