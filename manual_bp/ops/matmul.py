r"""Matrix product, for vectors, matrices and batches of matrices.

Indices: ``i`` row of ``x``, ``k`` what is summed over, ``j`` column of ``y``.

Forward::

    z_ij = sum_k x_ik y_kj           z = x y              (I, J)

Backward. x_ik is met in the terms x_ik y_kj, for each j; y_kj in x_ik y_kj, for each i::

    dL/dx_ik = sum_j dL/dz_ij y_kj   grad_z y^T           (I, K)
    dL/dy_kj = sum_i x_ik dL/dz_ij   x^T grad_z           (K, J)

Batch axes in front broadcast, and the gradient is summed over those along which a factor was
repeated. Where a single matrix served the whole batch, that sum need not be taken afterwards: the
batch makes the summed-over axis longer, and one product does it all. A vector counts as a row of
``x``, or as a column of ``y``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.sparse import sampled_addmm, sparse_mm, to_dense, to_sparse
from manual_bp.spec import Draw, Sample, Spec, sample


class MatmulFunction(Function):
    """``x``: (..., I, K) or (K), ``y``: (..., K, J) or (K); ``product``: its name in torch."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, product: str) -> Tensor:
        return getattr(torch, product)(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, _ = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        x_shape, y_shape = x.shape, y.shape
        if len(y_shape) == 1:  # a column
            y, grad_z = y.unsqueeze(-1), grad_z.unsqueeze(-1)
        if len(x_shape) == 1:  # a row
            x, grad_z = x.unsqueeze(0), grad_z.unsqueeze(-2)
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            if x.dim() == 2 < y.dim():
                grad_x = _product_over_batch(grad_z.mT, y.mH)
            else:
                grad_x = (grad_z @ y.mH).sum_to_size(x.shape)
            grad_x = grad_x.view(x_shape)
        if ctx.needs_input_grad[1]:
            if y.dim() == 2 < x.dim():
                grad_y = _product_over_batch(x.conj(), grad_z)
            else:
                grad_y = (x.mH @ grad_z).sum_to_size(y.shape)
            grad_y = grad_y.view(y_shape)
        return grad_x, grad_y, None


def _product_over_batch(a: Tensor, b: Tensor) -> Tensor:
    """``sum_n a_n^T b_n`` over all leading axes, as one product."""
    return a.flatten(0, -2).mT @ b.flatten(0, -2)


@under_autocast("lower")
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product with its gradients by hand; as ``torch.matmul`` and ``@``.

    Args:
        input: (..., I, K), or (K) for a row
        other: (..., K, J), or (K) for a column; leading axes broadcast

    Returns:
        (..., I, J), without the axis that a vector does not have.

    Raises:
        RuntimeError: From torch, with both shapes, where they do not fit.
    """
    return MatmulFunction.apply(input, other, "matmul")


def rmatmul(input: Tensor, other: Tensor) -> Tensor:
    """``other @ input``; as ``Tensor.__rmatmul__``."""
    return matmul(other, input)


@under_autocast("lower")
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices; as ``torch.mm``."""
    return MatmulFunction.apply(input, mat2, "mm")


@under_autocast("lower")
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (B, I, K) and (B, K, J); as ``torch.bmm``."""
    return MatmulFunction.apply(input, mat2, "bmm")


@under_autocast("lower", devices=("cuda",))
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a column; as ``torch.mv``."""
    return MatmulFunction.apply(input, vec, "mv")


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements; as ``torch.dot``."""
    return MatmulFunction.apply(input, tensor, "dot")


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3, 5))
    yield sample(draw(3), draw(3), label="row, column")
    yield sample(draw(3), draw(2, 3, 5), label="row, batch")
    yield sample(draw(2, 4, 3), draw(3), label="batch, column")
    yield sample(draw(2, 4, 3), draw(3, 5), label="batch, matrix")
    yield sample(draw(4, 3), draw(2, 3, 5), label="matrix, batch")
    yield sample(draw(2, 1, 4, 3), draw(6, 3, 5), label="batches broadcast")
    yield sample(draw(2, 0, 3), draw(3, 5), label="no rows")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), label="sizes differ")
    yield sample(draw(4, 3), draw(), label="a number")


def _mm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3, 5))


def _mm_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), draw(3, 5), label="three axes")


def _bmm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), draw(2, 3, 5))


def _mv_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))


def _dot_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), draw(3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(512, 512))
    yield sample(draw(16, 64, 256), draw(16, 256, 64))


_FORMULA = "z_ij = sum_k x_ik y_kj"
_GRADIENT = "dx = dz y^T,  dy = x^T dz"

MATMUL = Spec(
    name="matmul",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=matmul,
    native=torch.matmul,
    overrides=(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.linalg.matmul),
    inplace={torch.Tensor.__rmatmul__: rmatmul},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
MM = Spec(
    name="mm",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=mm,
    native=torch.mm,
    overrides=(torch.Tensor.mm,),
    inplace={
        torch.sparse.mm: sparse_mm,
        torch.sparse.sampled_addmm: sampled_addmm,
        torch.Tensor.to_sparse: to_sparse,
        torch.Tensor.to_dense: to_dense,
    },
    samples=_mm_samples,
    refused=_mm_refused,
)
BMM = Spec(
    name="bmm",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=bmm,
    native=torch.bmm,
    overrides=(torch.Tensor.bmm,),
    samples=_bmm_samples,
    refused=_mm_refused,
)
MV = Spec(
    name="mv",
    formula="z_i = sum_k x_ik y_k",
    gradient="dx_ik = dz_i y_k,  dy = x^T dz",
    manual=mv,
    native=torch.mv,
    overrides=(torch.Tensor.mv,),
    samples=_mv_samples,
)
DOT = Spec(
    name="dot",
    formula="z = sum_k x_k y_k",
    gradient="dx = dz y,  dy = dz x",
    manual=dot,
    native=torch.dot,
    overrides=(torch.Tensor.dot,),
    samples=_dot_samples,
)
