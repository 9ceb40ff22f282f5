r"""Copy in place: ``x`` takes the values of ``y``.

Forward and backward, ``y`` broadcast to the shape of ``x``::

    x := y
    dL/dx(before) = 0                what x was before is gone
    dL/dy = dL/dx(after)             summed over the axes along which y was repeated

Every in-place form of an operation is the operation followed by this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, in_dtype
from manual_bp.spec import Draw, Sample, Spec, sample


class CopyFunction(Function):
    """``x``: any shape; ``y``: a shape that broadcasts to it."""

    generate_vmap_rule = False  # none can be generated for what modifies its argument

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        x.copy_(y)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y = inputs
        ctx.mark_dirty(x)
        ctx.y_shape, ctx.y_dtype = y.shape, y.dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = torch.zeros_like(grad) if ctx.needs_input_grad[0] else None
        grad_y = None
        if ctx.needs_input_grad[1]:
            grad_y = in_dtype(grad.sum_to_size(ctx.y_shape), ctx.y_dtype)
        return grad_x, grad_y

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, y: Tensor) -> tuple[Any, ...]:
        """Write every example's ``y`` into its own ``x``."""
        first = batch_first(x, in_dims[0], "copy_")
        if in_dims[1] is not None:
            y = y.movedim(in_dims[1], 0)
            y = y.reshape(y.shape[0], *[1] * (first.dim() - y.dim()), *y.shape[1:])
        CopyFunction.apply(first, y)
        return x, in_dims[0]


def batch_first(x: Tensor, dim: int | None, name: str) -> Tensor:
    """``x``, which ``name`` is about to modify for each example of a batch, examples first."""
    if dim is None:  # all of them would write to the same place
        raise RuntimeError(
            f"vmap: {name} would write the results of a whole batch into one tensor of shape "
            f"{tuple(x.shape)}; use the form that is not in-place, or make the tensor inside, from "
            "one that is batched (x.new_zeros(...))"
        )
    return x.movedim(dim, 0) if dim else x


def copy_(x: Tensor, y: Tensor, non_blocking: bool = False) -> Tensor:
    """Write ``y`` into ``x``; as ``Tensor.copy_``.

    Raises:
        RuntimeError: Where torch refuses the same: ``x`` is a leaf that requires a gradient, or
            a view that a hand-written operation made.
    """
    del non_blocking  # a hint for copies between devices
    return CopyFunction.apply(x, y)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(3), label="broadcast")


SPEC = Spec(
    name="copy_",
    formula="x := y",
    gradient="dx = 0,  dy = sum over broadcast axes of dx",
    manual=copy_,
    native=torch.Tensor.copy_,
    modifies=True,
    samples=_samples,
)
