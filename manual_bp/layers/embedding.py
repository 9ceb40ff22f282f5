r"""Embedding: a table from which each index takes its row.

Indices: ``n`` place (of a word, in a batch of sentences), ``k`` row of ``K``, ``d`` feature of
``D``, ``i_n`` the index found at place ``n``.

Forward and backward::

    y_nd      = W_{i_n, d}                        (N, D)
    dL/dW_kd  = s_k sum_{n: i_n = k} dL/dy_nd     (K, D)
    s_k = 1,  or with ``scale_grad_by_freq``  1 / #{n: i_n = k}

It is a linear layer on one-hot vectors, y = X W with X_nk = [i_n = k], and the gradient is its
X^T dL/dy, without the zeros: a row met several times collects the blame of all its places, a row
never met has gradient 0 (and under weight decay or momentum may move all the same). The row at
``padding_idx`` is never blamed. ``sparse=True`` leaves the sum unsaid and returns the rows of
dL/dy with their indices: N D numbers in place of K D.

Bengio et al. (2003), "A Neural Probabilistic Language Model", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded
from manual_bp.spec import Draw, Sample, Spec, sample


class EmbeddingFunction(Function):
    """``index``: int64 or int32, any shape; ``weight``: (K, D); ``padding``: a row, or -1."""

    @staticmethod
    def forward(
        index: Tensor, weight: Tensor, padding: int, scale_by_freq: bool, sparse: bool
    ) -> Tensor:
        return torch.embedding(weight, index, padding, scale_by_freq, sparse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        index, weight, ctx.padding, ctx.scale_by_freq, ctx.sparse = inputs
        ctx.shape = weight.shape
        ctx.save_for_backward(index)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        index = ctx.saved_tensors[0].flatten()  # (N)
        rows = grad_y.reshape(index.shape[0], ctx.shape[1])  # (N, D)
        if ctx.sparse:
            grad_weight = _sparse(ctx, index, rows)
        else:
            if ctx.scale_by_freq:
                met = rows.new_ones(()).expand_as(index)
                frequency = rows.new_zeros(ctx.shape[0]).index_add(0, index, met)
                rows = rows / frequency[index].unsqueeze(-1)
            grad_weight = torch.zeros(ctx.shape, dtype=rows.dtype, device=rows.device)
            if is_recorded():
                grad_weight = grad_weight.index_add(0, index, rows)
            else:
                grad_weight.index_add_(0, index, rows)
            if ctx.padding >= 0:
                padding = torch.tensor([ctx.padding], device=rows.device)
                grad_weight = grad_weight.index_fill(0, padding, 0)
        return None, grad_weight, None, None, None


def _sparse(ctx: Any, index: Tensor, rows: Tensor) -> Tensor:
    """The gradient as its rows, repeated indices not yet added up."""
    if ctx.scale_by_freq:
        raise RuntimeError(
            "embedding_backward: scale_grad_by_freq not supported with sparse gradients"
        )
    if ctx.padding >= 0:
        kept = index != ctx.padding
        index, rows = index[kept], rows[kept]
    return torch.sparse_coo_tensor(index.unsqueeze(0), rows, ctx.shape, check_invariants=False)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table with their gradient by hand; as ``torch.nn.functional.embedding``.

    Args:
        input: int64 or int32, any shape (N...)
        weight: (K, D)
        padding_idx: the row that gets no gradient, from the end if negative
        max_norm: rows that are met and longer than this are first shortened to it, in ``weight``
            itself, which the gradient does not see
        norm_type: the p of that norm
        scale_grad_by_freq: divide a row's gradient by the number of places where it was met
        sparse: return the gradient as a sparse tensor

    Returns:
        (N..., D)

    Raises:
        IndexError: From torch, for an index out of range.
        AssertionError: As torch does, for a ``padding_idx`` out of range.
        RuntimeError: In the backward pass, for ``scale_grad_by_freq`` with ``sparse``.
    """
    padding = -1
    if padding_idx is not None:
        if not -weight.size(0) <= padding_idx < max(weight.size(0), 1):
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding = padding_idx % weight.size(0) if weight.size(0) else padding_idx
    if max_norm is not None:
        torch.embedding_renorm_(weight.detach(), input.contiguous(), max_norm, norm_type)
    return EmbeddingFunction.apply(input, weight, padding, scale_grad_by_freq, sparse)


class Embedding(torch.nn.Embedding):
    """``torch.nn.Embedding`` whose gradient is :class:`EmbeddingFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map indices (N...) to (N..., embedding_dim)."""
        return embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    index = torch.tensor([[0, 4, 4], [1, 4, 0]], device=draw.device)  # repeated; 2, 3 never met
    yield sample(index, draw(5, 3))
    yield sample(index, draw(5, 3), padding_idx=4, label="padding", smooth=False)
    yield sample(index, draw(5, 3), padding_idx=-5, label="from the end", smooth=False)
    yield sample(index[0, 1], draw(5, 3), label="one index")
    yield sample(index.int(), draw(5, 3), label="int32")
    yield sample(index[:0], draw(5, 3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.integers(1, 3) + 5, draw(5, 3), label="out of range")
    yield sample(draw.integers(5, 3), draw(5, 3), 5, label="padding out of range")
    yield sample(draw.integers(5, 3), draw(5, 3), -6, label="padding before the start")
    yield sample(draw.fixed(3), draw(5, 3), label="not integers")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.integers(5, 4), 5, 3)
    # Here and not above: torch's own gradient of the gradient forgets scale_grad_by_freq.
    yield sample(draw.integers(5, 2, 4), 5, 3, padding_idx=1, scale_grad_by_freq=True)
    yield sample(draw.integers(5, 2, 4), 5, 3, max_norm=1.0, norm_type=1.0, label="max_norm")
    yield sample(draw.integers(5, 2, 4), 5, 3, padding_idx=-1, sparse=True, label="sparse")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.integers(1000, 64), draw(1000, 512))
    yield sample(draw.integers(32000, 2048), draw(32000, 256))


SPEC = Spec(
    name="embedding",
    formula="y_n = W[i_n]",
    gradient="dW_k = sum of dy_n over n where i_n = k",
    manual=embedding,
    native=torch.nn.functional.embedding,
    samples=_samples,
    refused=_refused,
    modules={Embedding: _modules},
    bench=_bench,
)
