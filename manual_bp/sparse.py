r"""Between dense and sparse: to_sparse, to_dense, and a sparse matrix times a dense one.

P is the set of places that a sparse tensor stores; what it does not store is 0 and stays 0, so it
is not blamed. Indices: (i, k) in P, ``j`` column. Forward::

    to_sparse   y_i = x_i  for i in P          to_dense   y_i = x_i  for i in P, else 0
    mm          z_ij = sum of a_ik x_kj over the k with (i, k) in P

Backward: of the first two each is the other's; the product's is a matrix product's, read at P::

    dL/dx_i = dL/dy_i  for i in P
    dL/dx_kj = sum of a'_ik dL/dz_ij over the i with (i, k) in P
    dL/da_ik = sum_j dL/dz_ij x'_kj            for (i, k) in P alone: not a dense matrix

With a graph's edges for P the product is one step of message passing: Kipf & Welling (2017),
"Semi-Supervised Classification with Graph Convolutional Networks", section 2.

It is no file of ``ops/``, as a spec's samples are dense; tests/test_sparse.py holds it to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.view import nothing_to_do

__all__ = ["sparse_mm", "to_dense", "to_sparse"]


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
def sparse_mm(sparse: Tensor, dense: Tensor, *reduce: str) -> Tensor:
    """A sparse matrix times a dense one; as ``torch.sparse.mm``.

    Args:
        sparse: (I, K), in coordinates; other layouts are left to autograd
        dense: (K, J), dense
        reduce: another reduction than the sum, left to autograd

    Returns:
        (I, J), dense

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    ours = sparse.layout == torch.sparse_coo and dense.layout == torch.strided and not reduce
    if nothing_to_do(sparse, dense) or not ours or sparse.dim() != 2:
        return torch.sparse.mm(sparse, dense, *reduce)
    return SparseMmFunction.apply(sparse, dense)
