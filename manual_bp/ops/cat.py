r"""Put tensors side by side: cat along an axis that is there, stack along a new one.

Forward, for parts x_1, x_2, ... along one axis::

    y = [x_1, x_2, ...]

Backward: each part gets back its piece of the gradient::

    dL/dx_k = the piece of dL/dy where x_k was put
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.expand import reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class CatFunction(Function):
    """``parts``: shapes that are equal but along ``dim``."""

    @staticmethod
    def forward(dim: int, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim, *parts = inputs
        ctx.kinds = [(part.shape, part.dtype) for part in parts]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grads: list[Tensor | None] = []
        start = 0
        for wanted, (shape, dtype) in zip(ctx.needs_input_grad[1:], ctx.kinds, strict=True):
            if shape == (0,):  # torch lets an empty vector stand among tensors of any rank
                grads.append(grad_y.new_zeros(0, dtype=dtype) if wanted else None)
                continue
            size = shape[ctx.dim]
            piece = grad_y.narrow(ctx.dim, start, size) if wanted else None
            grads.append(None if piece is None else reduced(piece, shape, dtype))
            start += size
        return None, *grads


class StackFunction(Function):
    """``parts``: equal shapes; ``dim``: where the new axis goes."""

    @staticmethod
    def forward(dim: int, *parts: Tensor) -> Tensor:
        return torch.stack(parts, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim, *parts = inputs
        ctx.kinds = [(part.shape, part.dtype) for part in parts]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        pieces = grad_y.unbind(ctx.dim)
        return None, *(
            reduced(piece, *kind) if wanted else None
            for piece, kind, wanted in zip(pieces, ctx.kinds, ctx.needs_input_grad[1:], strict=True)
        )


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """The tensors side by side along ``dim``; as ``torch.cat``.

    Args:
        tensors: shapes that are equal but along ``dim``
        dim: an axis

    Returns:
        The sizes along ``dim`` added up, in the promoted dtype.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return CatFunction.apply(dim, *tensors)


def concatenate(tensors: Any, dim: int = 0) -> Tensor:
    """``cat`` under its other name; as ``torch.concatenate``."""
    return CatFunction.apply(dim, *tensors)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """The tensors side by side along a new axis ``dim``; as ``torch.stack``.

    Args:
        tensors: equal shapes
        dim: where the new axis goes

    Raises:
        RuntimeError: From torch, with the shapes, where they differ.
    """
    return StackFunction.apply(dim, *tensors)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(2, 3)])
    yield sample((draw(4, 3), draw(4, 1), draw(4, 2)), -1, label="last axis")
    yield sample([draw(4, 3), draw(0), draw(0, 3)], label="empty ones")
    yield sample([draw(4, 3), draw.fixed(2, 3)], label="one is constant")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(4, 2)], label="sizes differ")


def _concatenate_samples(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(4, 2)], dim=1)


def _stack_samples(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(4, 3)])
    yield sample((draw(4, 3), draw(4, 3), draw.fixed(4, 3)), -1, label="last axis")


def _stack_refused(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(2, 3)], label="sizes differ")


CAT = Spec(
    name="cat",
    formula="y = [x_1, x_2, ...]",
    gradient="dx_k = the piece of dy where x_k was put",
    manual=cat,
    native=torch.cat,
    overrides=(torch.concat,),
    samples=_samples,
    refused=_refused,
)
CONCATENATE = Spec(
    name="concatenate",
    formula="y = [x_1, x_2, ...]",
    gradient="dx_k = the piece of dy where x_k was put",
    manual=concatenate,
    native=torch.concatenate,
    samples=_concatenate_samples,
)
STACK = Spec(
    name="stack",
    formula="y = [x_1, x_2, ...] along a new axis",
    gradient="dx_k = the piece of dy where x_k was put",
    manual=stack,
    native=torch.stack,
    samples=_stack_samples,
    refused=_stack_refused,
)
