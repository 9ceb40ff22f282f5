r"""Between dense and sparse: to_sparse, to_dense, and a sparse matrix times a dense one.

P is the set of places that a sparse tensor stores; what it does not store is 0 and stays 0, so it
is not blamed. Indices: (i, k) in P, ``j`` column. Forward::

    to_sparse   y_i = x_i  for i in P          to_dense   y_i = x_i  for i in P, else 0
    mm          z_ij = sum of a_ik x_kj over the k with (i, k) in P
    sampled_addmm   z_ij = beta c_ij + alpha sum_k x_ik y_kj  for (i, j) in P

Backward: of the first two each is the other's; the product's is a matrix product's, read at P::

    dL/dx_i = dL/dy_i  for i in P
    dL/dx_kj = sum of a'_ik dL/dz_ij over the i with (i, k) in P
    dL/da_ik = sum_j dL/dz_ij x'_kj            for (i, k) in P alone: not a dense matrix

The sampled product is a product read at P, and its backward a product of what is stored at P.
With a graph's edges for P the product is one step of message passing: Kipf & Welling (2017),
"Semi-Supervised Classification with Graph Convolutional Networks", section 2.

It is no file of ``ops/``, as a spec's samples are dense; tests/test_sparse.py holds it to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, nothing_to_do, under_autocast
from manual_bp.ops.index_select import index_select
from manual_bp.ops.mul import mul
from manual_bp.ops.scatter_reduce import ScatterReduceFunction
from manual_bp.ops.view import unsqueeze

__all__ = ["sampled_addmm", "sparse_mm", "to_dense", "to_sparse"]


class ToSparseFunction(Function):
    """``x``: dense; ``sparse_dim``: how many axes are stored by their places, () for all."""

    generate_vmap_rule = False  # a batch of sparse tensors has no one set of places

    @staticmethod
    def forward(x: Tensor, sparse_dim: tuple[int, ...]) -> Tensor:
        return x.to_sparse(*sparse_dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: the gradient knows its places."""

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return (grad_y if grad_y.layout == torch.strided else grad_y.to_dense()), None


class ToDenseFunction(Function):
    """``x``: sparse, in coordinates."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.to_dense()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y.sparse_mask(x.coalesce())


class SparseMmFunction(Function):
    """``a``: (I, K), sparse, in coordinates; ``x``: (K, J), dense."""

    generate_vmap_rule = False

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        return torch.sparse.mm(a, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        a, x = ctx.saved_tensors
        grad_a = grad_x = None
        if ctx.needs_input_grad[0]:
            places = a.coalesce().indices()
            values = (grad_z[places[0]] * x[places[1]].conj()).sum(-1)
            grad_a = torch.sparse_coo_tensor(
                places, values, a.shape, is_coalesced=True, check_invariants=False
            )
        if ctx.needs_input_grad[1]:
            grad_x = torch.sparse.mm(a.t().conj() if a.is_complex() else a.t(), grad_z)
        return grad_a, grad_x


class StoredFunction(Function):
    """The stored values of ``a``: (I, K), sparse, in compressed rows."""

    generate_vmap_rule = False

    @staticmethod
    def forward(a: Tensor) -> Tensor:
        return a.values().clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (a,) = ctx.saved_tensors
        rows, columns = a.crow_indices(), a.col_indices()
        return torch.sparse_csr_tensor(rows, columns, grad_y, a.shape, check_invariants=False)


class SampledProductFunction(Function):
    """``c``: (I, J), sparse, in compressed rows; ``x``: (I, K); ``y``: (K, J)."""

    generate_vmap_rule = False

    @staticmethod
    def forward(c: Tensor, x: Tensor, y: Tensor, beta: float, alpha: float) -> Tensor:
        return torch.sparse.sampled_addmm(c, x, y, beta=beta, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        c, x, y, beta, alpha = inputs
        ctx.beta, ctx.alpha = beta.conjugate(), alpha.conjugate()
        ctx.save_for_backward(c, x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        c, x, y = ctx.saved_tensors
        g = grad_z.sparse_mask(c) if grad_z.layout == torch.strided else grad_z
        grad_c = grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_c = grad_z * ctx.beta  # a dense one stays dense, as torch's
        if ctx.needs_input_grad[1]:
            grad_x = (g @ y.mH) * ctx.alpha
        if ctx.needs_input_grad[2]:
            grad_y = (x.mH @ g) * ctx.alpha
        return grad_c, grad_x, grad_y, None, None


def to_sparse(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``input`` stored by the places of what is not 0; as ``Tensor.to_sparse``.

    Args:
        input: any shape, dense
        args: how many axes are stored by their places; all without it
        kwargs: ``sparse_dim`` by its name; another layout is left to autograd
    """
    given = (*args, *kwargs.values())
    in_coordinates = all(isinstance(a, int) for a in given) and input.layout == torch.strided
    if nothing_to_do(input) or not in_coordinates:
        return torch.Tensor.to_sparse(input, *args, **kwargs)
    return ToSparseFunction.apply(input, given)


def to_dense(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``input`` with all its zeros; as ``Tensor.to_dense``.

    Args:
        input: sparse, in coordinates; other layouts are left to autograd
        args: a dtype, left to autograd
        kwargs: as ``args``
    """
    if input.layout == torch.strided and not args and not kwargs:
        return input
    if nothing_to_do(input) or input.layout != torch.sparse_coo or args or kwargs:
        return torch.Tensor.to_dense(input, *args, **kwargs)
    return ToDenseFunction.apply(input)


@under_autocast("lower")
def sparse_mm(sparse: Tensor, dense: Tensor, reduce: str | None = None) -> Tensor:
    """A sparse matrix times a dense one; as ``torch.sparse.mm``.

    Args:
        sparse: (I, K); in coordinates, or in compressed rows with ``reduce``; other layouts are
            left to autograd
        dense: (K, J), dense
        reduce: "sum", "mean", "amax" or "amin" of the a_ik x_kj; None for the sum

    Returns:
        (I, J), dense

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    layout = torch.sparse_coo if reduce is None else torch.sparse_csr
    ours = sparse.layout == layout and dense.layout == torch.strided and sparse.dim() == 2
    if not ours or nothing_to_do(sparse, dense) or sparse.shape[1] != dense.shape[0]:
        return torch.sparse.mm(sparse, dense, *([] if reduce is None else [reduce]))
    if reduce is None:
        return SparseMmFunction.apply(sparse, dense)
    rows, columns = sparse.crow_indices(), sparse.col_indices()
    places = torch.arange(len(rows) - 1, device=rows.device).repeat_interleave(rows.diff())
    edges = mul(unsqueeze(StoredFunction.apply(sparse), 1), index_select(dense, 0, columns))
    empty = dense.new_zeros(sparse.shape[0], dense.shape[1])
    places = places.long().unsqueeze(1).expand(edges.shape)
    return ScatterReduceFunction.apply(empty, 0, places, edges, reduce, False)


def sampled_addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1.0, alpha: float = 1.0
) -> Tensor:
    """``beta input + alpha mat1 mat2`` where ``input`` stores; as ``torch.sparse.sampled_addmm``.

    Args:
        input: (I, J), sparse, in compressed rows
        mat1: (I, K), dense
        mat2: (K, J), dense
        beta: factor of ``input``
        alpha: factor of the product

    Returns:
        (I, J), sparse, with the places of ``input``

    Raises:
        RuntimeError: From torch, where sizes or layouts do not fit.
    """
    if input.dim() != 2:  # a batch of them
        return torch.sparse.sampled_addmm(input, mat1, mat2, beta=beta, alpha=alpha)
    return SampledProductFunction.apply(input, mat1, mat2, beta, alpha)
