r"""Embedding bag: the rows of a table, summed, averaged or maximized over each bag of indices.

Indices: ``n`` place, ``b`` bag, ``k`` row of ``K``, ``d`` feature; ``i_n`` the index at place
``n``, ``b_n`` the bag of that place, ``|b|`` the number of places in a bag. Places that hold
``padding_idx`` count in none of this.

Forward, s_n the per-sample weight (1 without, and with the mean and the maximum)::

    sum    y_bd = sum_{n in b} s_n W_{i_n, d}          (B, D)
    mean   y_bd = 1/|b| sum_{n in b} W_{i_n, d}
    max    y_bd = max_{n in b} W_{i_n, d}              an empty bag gives 0

Backward, as for ``embedding``, from the gradient that each place gets from its bag::

    sum    dL/dW_kd = sum_{n: i_n = k} s_n dL/dy_{b_n, d}         (K, D)
           dL/ds_n  = sum_d dL/dy_{b_n, d} W_{i_n, d}             (N)
    mean   dL/dW_kd = sum_{n: i_n = k} dL/dy_{b_n, d} / |b_n|
    max    dL/dW_kd = sum_b dL/dy_bd  where k is the row that gave the maximum

``scale_grad_by_freq`` divides the gradient of a row by the number of places that hold it. (On a
CPU torch 2.13 divides by the number of another row; no sample here asks for it.)

The rows themselves, N x D numbers, are never laid out in the forward: that is what it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, widened
from manual_bp.spec import Draw, Sample, Spec, sample

MODES = ("sum", "mean", "max")


class EmbeddingBagFunction(Function):
    """``index``: (N,), ``weight``: (K, D), ``offsets``: (B,) or (B + 1,), ``scale``: (N,)."""

    generate_vmap_rule = False  # torch's kernel has none

    @staticmethod
    def forward(
        index: Tensor,
        weight: Tensor,
        offsets: Tensor,
        scale: Tensor | None,
        mode: str,
        padding: int | None,
        by_freq: bool,
        sparse: bool,
        include_last: bool,
    ) -> tuple[Tensor, Tensor]:
        y, _, _, largest = torch.embedding_bag(
            weight,
            index.flatten(),
            offsets,
            by_freq,
            MODES.index(mode),
            sparse,
            None if scale is None else scale.flatten(),
            include_last,
            padding,
        )
        return y, largest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        index, weight, offsets, scale, ctx.mode, ctx.padding = inputs[:6]
        ctx.by_freq, ctx.sparse, ctx.include_last = inputs[6:]
        _, largest = output
        ctx.mark_non_differentiable(largest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(index, weight, offsets, scale, largest)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 9
        index, weight, offsets, scale, largest = ctx.saved_tensors
        index = index.flatten()
        bag, kept, size = places(ctx, index, offsets)
        (g,) = widened(grad_y)
        grad_weight = grad_scale = None
        if ctx.mode == "max":
            g = torch.where((size > 0).unsqueeze(-1), g, g.new_zeros(()))
            grad_weight = g.new_zeros(weight.shape)
            grad_weight = grad_weight.scatter_add(0, largest.clamp(min=0).long(), g)
            return None, grad_weight.to(weight.dtype), *(None,) * 7
        if ctx.mode == "mean":
            g = g / size.clamp(min=1).unsqueeze(-1)
        rows = torch.where(kept.unsqueeze(-1), g[bag], g.new_zeros(()))  # (N, D)
        if ctx.needs_input_grad[1]:
            mine = rows if scale is None else rows * scale.flatten().unsqueeze(-1)
            grad_weight = per_row(ctx, index, mine, weight, kept)
        if ctx.needs_input_grad[3]:
            (w,) = widened(weight)
            grad_scale = (rows * w[index]).sum(-1).view_as(scale).to(scale.dtype)
        return None, grad_weight, None, grad_scale, *(None,) * 5


def places(ctx: Any, index: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bag of each place, whether it counts, and how many count in each bag."""
    starts = offsets[:-1] if ctx.include_last else offsets
    place = torch.arange(index.shape[0], device=index.device, dtype=offsets.dtype)
    bag = torch.searchsorted(starts, place, right=True) - 1
    kept = index != (-1 if ctx.padding is None else ctx.padding)
    size = kept.new_zeros(starts.shape[0], dtype=torch.int64)
    return bag, kept, size.index_add(0, bag, kept.long())


def per_row(ctx: Any, index: Tensor, rows: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
    """``dL/dW`` from the gradient of each place."""
    if ctx.by_freq:
        met = torch.zeros_like(weight[:, 0], dtype=rows.dtype)
        rows = rows / met.index_add(0, index, torch.ones_like(rows[:, 0]))[index].unsqueeze(-1)
    if ctx.sparse:
        if ctx.by_freq:
            raise RuntimeError(
                "embedding_backward: scale_grad_by_freq not supported with sparse gradients"
            )
        at = index[kept].unsqueeze(0)
        rows = rows[kept].to(weight.dtype)
        return torch.sparse_coo_tensor(at, rows, weight.shape, check_invariants=False)
    grad_weight = rows.new_zeros(weight.shape)
    if is_recorded():
        grad_weight = grad_weight.index_add(0, index, rows)
    else:
        grad_weight.index_add_(0, index, rows)
    return grad_weight.to(weight.dtype)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Bags of rows with gradients by hand; as ``torch.nn.functional.embedding_bag``.

    Args:
        input: int64 or int32; (B, L), a bag a row, or (N,) with ``offsets``
        weight: (K, D)
        offsets: (B,), where each bag starts
        max_norm: rows that are met and longer than this are first shortened to it, in ``weight``
            itself, which the gradient does not see
        norm_type: the p of that norm
        scale_grad_by_freq: divide a row's gradient by the number of places where it was met
        mode: "sum", "mean" or "max"
        sparse: return the gradient as a sparse tensor
        per_sample_weights: the shape of ``input``, with "sum" alone
        include_last_offset: whether ``offsets`` ends with N
        padding_idx: the row that does not count, from the end if negative

    Returns:
        (B, D)

    Raises:
        ValueError: From torch, for shapes and options that do not fit.
        RuntimeError: From torch, for an index out of range.
    """
    torch_would_not = (
        weight.dim() != 2
        or input.dim() not in (1, 2)
        or (input.dim() == 1) != (offsets is not None)
        or (offsets is not None and offsets.dim() != 1)
        or mode not in MODES
        or (mode == "max" and (scale_grad_by_freq or sparse))
        or (
            per_sample_weights is not None
            and (mode != "sum" or per_sample_weights.shape != input.shape)
        )
    )
    if torch_would_not or input.is_floating_point():
        return torch.nn.functional.embedding_bag(
            input,
            weight,
            offsets,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            per_sample_weights=per_sample_weights,
        )
    padding = None  # and not -1, which here is the last row
    if padding_idx is not None:
        if not -weight.size(0) <= padding_idx < weight.size(0):
            raise RuntimeError(
                "padding_idx must be within the number of embeddings, -"
                f"{weight.size(0)} through {weight.size(0) - 1}, but got {padding_idx}"
            )
        padding = padding_idx % weight.size(0)
    if max_norm is not None:
        torch.embedding_renorm_(weight.detach(), input.contiguous(), max_norm, norm_type)
    if offsets is None:
        bags, length = input.shape
        offsets = torch.arange(bags, dtype=input.dtype, device=input.device) * length
    return EmbeddingBagFunction.apply(
        input,
        weight,
        offsets,
        per_sample_weights,
        mode,
        padding,
        scale_grad_by_freq,
        sparse,
        include_last_offset,
    )[0]


class EmbeddingBag(torch.nn.EmbeddingBag):
    """``torch.nn.EmbeddingBag`` whose gradients are :class:`EmbeddingBagFunction`'s."""

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Map bags of indices to (B, embedding_dim)."""
        return embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    index = torch.tensor([0, 4, 4, 1, 4, 2], device=draw.device)
    starts = torch.tensor([0, 2, 2, 3], device=draw.device)  # the second bag is empty
    ends = torch.tensor([0, 2, 2, 3, 6], device=draw.device)
    table = index.view(2, 3)
    yield sample(table, draw(5, 3))
    # Offsets by name: then they count as constants, and no test varies them on its own. Torch's
    # kernel reads outside of its memory where they do not ascend.
    bags: dict[str, Any] = {"offsets": starts}
    yield sample(index, draw(5, 3), **bags, mode="sum", label="sum, offsets")
    yield sample(index, draw(5, 3), offsets=ends, include_last_offset=True, label="last offset")
    yield sample(index, draw(5, 3), **bags, mode="max", label="max")
    yield sample(table, draw(5, 3), padding_idx=4, label="mean, padding")
    yield sample(table, draw(5, 3), mode="max", padding_idx=-1, label="max, padding")
    weights = draw.fixed(6)
    yield sample(index, draw(5, 3), **bags, mode="sum", per_sample_weights=weights, label="weights")


def _refused(draw: Draw) -> Iterator[Sample]:
    index = draw.integers(5, 6)
    yield sample(index, draw(5, 3), label="no offsets")
    yield sample(index, draw(5, 3), index[:2], mode="median", label="mode")
    yield sample(index.view(2, 3), draw(5, 3), index[:2], label="offsets of a table")
    yield sample(index.view(2, 3), draw(5, 3), per_sample_weights=draw(2, 3), label="mean, weights")
    yield sample(index.view(2, 3), draw(5, 3), mode="max", sparse=True, label="max, sparse")
    yield sample(index.view(2, 3) + 5, draw(5, 3), label="out of range")
    yield sample(index.view(2, 3), draw(5, 3), padding_idx=5, label="padding")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.integers(5, 2, 4), 5, 3)
    yield sample(draw.integers(5, 2, 4), 5, 3, mode="max", padding_idx=1)
    yield sample(draw.integers(5, 2, 4), 5, 3, mode="sum", sparse=True, padding_idx=1)
    yield sample(draw.integers(5, 2, 4), 5, 3, max_norm=1.0, norm_type=1.0)
    starts = torch.tensor([0, 2, 2, 5], device=draw.device)
    yield sample((draw.integers(5, 6), starts, draw(6)), 5, 3, mode="sum", label="weights")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.integers(1000, 64, 8), draw(1000, 64))
    yield sample(draw.integers(32000, 512, 32), draw(32000, 128))


SPEC = Spec(
    name="embedding_bag",
    formula="y_b = sum, mean or max of W[i_n] over the places n of bag b",
    gradient="dW_k = sum of s_n dy_{b_n} over n where i_n = k,  ds_n = dy_{b_n} . W[i_n]",
    manual=embedding_bag,
    native=torch.nn.functional.embedding_bag,
    samples=_samples,
    refused=_refused,
    modules={EmbeddingBag: _modules},
    bench=_bench,
    vmap=False,
)
