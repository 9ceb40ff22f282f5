r"""Masked scatter: the next element of a vector wherever a mask is True.

Indices: ``i`` place, ``m`` element of the source; p(i) how many places before ``i`` are True.
Forward and backward::

    y_i = s_p(i)  where the mask is True,  else x_i
    dL/dx_i = 0  there,  else dL/dy_i              dL/ds_m = dL/dy_i  where m = p(i),  else 0

It puts the embeddings of an image's patches where a text has left room for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import Function
from manual_bp.ops.expand import expand
from manual_bp.spec import Draw, Sample, Spec, sample


class MaskedScatterFunction(Function):
    """``x`` and ``mask``: one shape; ``source``: at least as many elements as are True."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
        if torch._C._are_functorch_transforms_active():  # torch's own cannot be batched
            places = _among_true(mask).clamp(0, source.numel() - 1)
            return torch.where(mask, source.reshape(-1)[places.view(mask.shape)], x)
        return torch.masked_scatter(x, mask, source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, mask, source = inputs
        ctx.source_shape = source.shape
        ctx.save_for_backward(mask)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (mask,) = ctx.saved_tensors
        grad_x = grad_source = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y.masked_fill(mask, 0)
        if ctx.needs_input_grad[2]:
            # What is False goes to one more place behind the source's end, which is left out.
            size = ctx.source_shape.numel()
            places = torch.where(mask.reshape(-1), _among_true(mask), size)
            grad_source = grad_y.new_zeros(size + 1).scatter(0, places, grad_y.reshape(-1))
            grad_source = grad_source.narrow(0, 0, size).reshape(ctx.source_shape)
        return grad_x, None, grad_source


def _among_true(mask: Tensor) -> Tensor:
    """Of each True the place among all that are, counted from 0, of the flattened mask."""
    return mask.reshape(-1).cumsum(0) - 1


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """The next element of ``source`` wherever ``mask`` is True; as ``torch.masked_scatter``.

    Args:
        input: a shape that broadcasts with that of ``mask``
        mask: bool
        source: at least as many elements as are True

    Returns:
        The broadcast shape.

    Raises:
        RuntimeError: From torch, where there are too few elements or dtypes do not fit.
    """
    shape = torch.broadcast_shapes(input.shape, mask.shape)
    if mask.dtype != torch.bool or input.dtype != source.dtype:
        return torch.masked_scatter(input, mask, source)  # which says what is wrong
    return MaskedScatterFunction.apply(expand(input, shape), mask.expand(shape), source)


def _masked_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 3) > 0, draw(5, 3))
    mask = torch.tensor([True, False, True], device=draw.device)
    yield sample(draw(4, 1), mask, draw(9), label="broadcast")


MASKED_SCATTER = Spec(
    name="masked_scatter",
    formula="y_i(m) = s_m at the m-th True, else y_i = x_i",
    gradient="ds_m = dy_i(m),  dx_i = dy_i, but 0 at all i(m)",
    manual=masked_scatter,
    native=torch.masked_scatter,
    overrides=(torch.Tensor.masked_scatter,),
    inplace={torch.Tensor.masked_scatter_: in_place(masked_scatter)},
    samples=_masked_samples,
)
