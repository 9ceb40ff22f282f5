"""What the functions of numbers, applied element by element, have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, nothing_to_do, widened
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Samples, Spec, sample

__all__ = ["FromInputs", "asked_for", "in_place", "operands", "times_slope", "unary"]

# Elements of a block, for each thread: what a formula makes on its way then stays in the cache.
_BLOCK = 2**16


class FromInputs(Function):
    """``z = f(x, y, ...)`` with broadcasting, of tensors and numbers, all of which are kept."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the tensors, remember the numbers, and what each gradient has to fit."""
        ctx.kinds = [kind(a) for a in inputs]
        ctx.numbers = [None if isinstance(a, Tensor) else a for a in inputs]
        ctx.save_for_backward(*[a if isinstance(a, Tensor) else None for a in inputs])


def operands(ctx: Any) -> list[Any]:
    """The inputs of a :class:`FromInputs`, in order."""
    saved = zip(ctx.saved_tensors, ctx.numbers, strict=True)
    return [number if tensor is None else tensor for tensor, number in saved]


def asked_for(ctx: Any, *gradients: Callable[[], Tensor]) -> tuple[Tensor | None, ...]:
    """Of one formula for each of the first inputs, those that somebody needs, fitted to them."""
    found: list[Tensor | None] = [None] * len(ctx.kinds)
    for i, gradient in enumerate(gradients):
        if ctx.needs_input_grad[i]:
            found[i] = reduced(gradient(), *ctx.kinds[i])
    return tuple(found)


def in_place(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``f``, writing its result into its first argument.

    It works on a copy, for the backward may need what is overwritten. Where there is no gradient,
    torch's own method of the name, if there is one, writes at once.
    """
    native = getattr(torch.Tensor, f"{f.__name__}_", None)

    @functools.wraps(f)
    def write(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if native is not None and nothing_to_do(input, *args, *kwargs.values()):
            return native(input, *args, **kwargs)
        return copy_(input, f(clone(input), *args, **kwargs))

    return write


def times_slope(grad_y: Tensor, slope: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``grad_y * slope(x)`` in the dtype of ``x``, where nothing records it.

    A slope of several operations takes several passes over memory, and memory for what they make.
    Of a large tensor one block is done at a time, for which the cache is enough.

    Args:
        grad_y: The shape of ``x``.
        slope: The derivative, element by element, in memory of its own; of 16-bit numbers it is
            given and returns float32.
        x: Any shape.
    """
    block = _BLOCK * torch.get_num_threads()
    if x.numel() <= 2 * block or not (x.is_cpu and x.is_contiguous() and grad_y.is_contiguous()):
        g, wide = widened(grad_y, x)
        return slope(wide).mul_(g).to(x.dtype)
    grad_x = torch.empty_like(x)
    for part in zip(*(t.view(-1).split(block) for t in (grad_y, x, grad_x)), strict=True):
        g, wide = widened(*part[:2])
        torch.mul(slope(wide), g, out=part[2])
    return grad_x


def unary(
    manual: Callable[[Tensor], Tensor],
    formula: str,
    gradient: str,
    samples: Samples,
    *overrides: Callable[..., Any],
    scale: float = 1.0,
    shift: float = 0.0,
    written: bool = True,
) -> Spec:
    """The spec of a function of one number, which torch has under the same name.

    Args:
        manual: The face; ``torch.<name>`` or ``torch.special.<name>``, ``Tensor.<name>`` and
            their in-place forms are found.
        formula: Of the spec.
        gradient: Of the spec.
        samples: Of the spec.
        overrides: Other names that torch has for it.
        scale: Of the numbers to time it with.
        shift: Of the middle of the numbers to time it with.
        written: Whether torch differentiates its in-place forms.
    """
    name = manual.__name__

    def bench(draw: Draw) -> Iterator[Sample]:
        for shape in ((64, 512), (1024, 2048)):
            x = draw.uniform(*shape, low=shift - scale, high=shift + scale)
            yield sample(x.requires_grad_())

    places = (torch, torch.Tensor)
    forms = [getattr(place, f"{name}_") for place in places if hasattr(place, f"{name}_")]
    method = getattr(torch.Tensor, name, None)
    return Spec(
        name=name,
        formula=formula,
        gradient=gradient,
        manual=manual,
        native=getattr(torch, name, None) or getattr(torch.special, name),
        overrides=overrides if method is None else (method, *overrides),
        inplace=dict.fromkeys(forms if written else (), in_place(manual)),
        samples=samples,
        bench=bench,
    )
