r"""Gather what falls on one place and reduce it there: scatter_reduce, index_reduce.

Indices: ``m`` source, i(m) its place. S_i stands for all that meets at ``i``: x_i itself (unless
``include_self`` is False and there is a source) and the s_m with i(m) = i; n_i is their number.
Forward and backward, with dL/ds_m read at i(m)::

    sum    y_i = sum of S_i        dL/dx_i = dL/dy_i                    dL/ds_m = dL/dy_i
    mean   y_i = sum of S_i / n_i  dL/dx_i = dL/dy_i / n_i              dL/ds_m = dL/dy_i / n_i
    amax   y_i = largest of S_i    dL/dx_i = dL/dy_i / k  if x_i = y_i, else 0;  likewise s_m
    prod   y_i = product of S_i    dL/dx_i = dL/dy_i times all others;  likewise s_m

with k the number of those that are equal to the largest. "All others" is y_i / s_m, but where s_m
is 0 the product has to be taken without it. Message passing on graphs is made of these: Gilmer et
al. (2017), "Neural Message Passing for Quantum Chemistry", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import Function, widened
from manual_bp.ops.getitem import getitem
from manual_bp.spec import Draw, Sample, Spec, sample


class ScatterReduceFunction(Function):
    """``x``: any shape; ``index`` and ``s``: as many axes; ``how``: "sum", "mean", ... ."""

    @staticmethod
    def forward(
        x: Tensor, dim: int, index: Tensor, s: Tensor, how: str, include_self: bool
    ) -> Tensor:
        return torch.scatter_reduce(x, dim, index, s, how, include_self=include_self)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, index, s, ctx.how, ctx.include_self = inputs
        values = (x, s, output) if ctx.how in ("prod", "amax", "amin") else ()
        ctx.save_for_backward(index, *values)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        index, *values = ctx.saved_tensors
        dim, dtype = ctx.dim, grad_y.dtype
        g, *values = widened(grad_y, *values)
        if ctx.how == "prod":
            g_x, g_s = _of_product(ctx, g, index, *values)
        elif ctx.how in ("amax", "amin"):
            x, s, y = values
            x_is_it, s_is_it = x == y, s == y.gather(dim, index)
            g = g / x_is_it.to(g.dtype).scatter_add(dim, index, s_is_it.to(g.dtype))
            g_x, g_s = g * x_is_it, g.gather(dim, index) * s_is_it
        else:
            if ctx.how == "mean":
                ones = torch.ones_like(g)
                sources = torch.zeros_like(g).scatter_add(dim, index, ones.gather(dim, index))
                g = g / (sources + 1 if ctx.include_self else sources.clamp(min=1))
            g_x, g_s = g, g.gather(dim, index)
        if not ctx.include_self:
            g_x = g_x.scatter(dim, index, 0)
        needed = ctx.needs_input_grad
        grad_x, grad_s = g_x.to(dtype) if needed[0] else None, g_s.to(dtype) if needed[3] else None
        return grad_x, None, None, grad_s, None, None


def _of_product(
    ctx: Any, g: Tensor, index: Tensor, x: Tensor, s: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of a product: its own times all other factors."""
    dim = ctx.dim

    def product(x: Tensor, s: Tensor) -> Tensor:
        return torch.scatter_reduce(x, dim, index, s, "prod", include_self=ctx.include_self)

    x_or_1 = x.masked_fill(x == 0, 1)
    g_x = g * product(x_or_1, s) / x_or_1
    is_zero = s == 0
    zeros = torch.zeros_like(y).scatter_add(dim, index, is_zero.to(y.dtype)).gather(dim, index)
    constant = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if torch.is_grad_enabled() and not constant and bool((zeros > 1).any()):
        raise RuntimeError(
            f"{ctx.how}: the second derivative is not written for two factors of 0 at one place"
        )
    alone = is_zero & (zeros == 1)
    without_it = (g * product(x, s.masked_fill(alone, 1))).gather(dim, index)
    g_s = (g * y).gather(dim, index) / s.masked_fill(is_zero, 1)
    return g_x, torch.where(alone, without_it, g_s)


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``src`` reduced at the places that ``index`` names; as ``torch.scatter_reduce``.

    Args:
        input: any shape
        dim: the axis along which the places hold
        index: int64, as many axes
        src: at least the shape of ``index``
        reduce: "sum", "prod", "mean", "amax" or "amin"
        include_self: whether what is there before takes part

    Returns:
        The shape of ``input``.

    Raises:
        RuntimeError: From torch, where shapes or places do not fit, or for another ``reduce``; in
            a backward that is recorded, for a product with two factors of 0 at one place.
    """
    if src.shape != index.shape and src.dim() == index.dim():
        src = getitem(src, tuple(slice(size) for size in index.shape))
    return ScatterReduceFunction.apply(input, dim, index, src, reduce, include_self)


def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """Slices of ``source`` reduced at ``index`` along ``dim``; as ``torch.index_reduce``.

    Args:
        input: any shape
        dim: an axis
        index: (K), int64 or int32
        source: the shape of ``input``, with K along ``dim``
        reduce: "prod", "mean", "amax" or "amin"
        include_self: whether what is there before takes part

    Raises:
        IndexError: From torch, where shapes or places do not fit.
    """
    fits = source.dim() == input.dim() and index.dim() <= 1 and reduce != "sum"
    if not fits or index.numel() != (source.shape[dim] if source.dim() else 1):
        return torch.index_reduce(input, dim, index, source, reduce, include_self=include_self)
    shape = [1] * source.dim()
    if shape:
        shape[dim] = -1
    index = index.long().view(shape).expand(source.shape)
    return ScatterReduceFunction.apply(input, dim, index, source, reduce, include_self)


def _samples(draw: Draw) -> Iterator[Sample]:
    places = torch.tensor([[2, 0, 2], [1, 2, 2]], device=draw.device)
    for reduce in ("mean", "sum", "prod", "amax"):
        yield sample(draw(4, 3), 0, places, draw(2, 3), reduce, label=reduce)
    yield sample(draw(4, 3), 0, places, draw(2, 3), "mean", include_self=False, label="not self")
    ties, at = draw.values(1.0, 2.0, 2.0, 0.0, 2.0), torch.tensor([0, 0, 1, 1, 1])
    yield sample(draw.values(2.0, 2.0), 0, at, ties, "amax", label="ties", smooth=False)
    yield sample(draw.values(2.0, 3.0), 0, at, ties, "prod", label="a factor of 0")


def _index_samples(draw: Draw) -> Iterator[Sample]:
    places = torch.tensor([2, 0, 2], device=draw.device)
    yield sample(draw(4, 3), 0, places, draw(3, 3), "mean", include_self=False)
    yield sample(draw(2, 4), 1, places, draw(2, 3), "amin", label="amin")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, draw.integers(4, 2), draw(2, 3), "sum", label="axes differ")


SCATTER_REDUCE = Spec(
    name="scatter_reduce",
    formula="y_i = sum, mean, product, largest or smallest of x_i and the s_m with i(m) = i",
    gradient="sum: ds_m = dy_i(m); mean: / n; amax: / k where s_m = y_i; prod: times the others",
    manual=scatter_reduce,
    native=torch.scatter_reduce,
    overrides=(torch.Tensor.scatter_reduce,),
    inplace={torch.Tensor.scatter_reduce_: in_place(scatter_reduce)},
    samples=_samples,
    refused=_refused,
)
INDEX_REDUCE = Spec(
    name="index_reduce",
    formula="y_i = mean, product, largest or smallest of x_i and the slices s_m with i(m) = i",
    gradient="as scatter_reduce's, slice by slice",
    manual=index_reduce,
    native=torch.index_reduce,
    overrides=(torch.Tensor.index_reduce,),
    inplace={torch.Tensor.index_reduce_: in_place(index_reduce)},
    samples=_index_samples,
)
