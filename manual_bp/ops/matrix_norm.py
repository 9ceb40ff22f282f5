r"""Norms of matrices: how much a matrix can stretch a vector, or all it stretches together.

Forward, for ``A`` (m, n) with singular values s_1 >= s_2 >= ...::

    "fro"    sqrt(sum_ij |a_ij|^2) = sqrt(sum_k s_k^2)
    "nuc"    sum_k s_k
    2, -2    the largest, the smallest s_k
    1, -1    the largest, the smallest sum of |a_ij| over a column
    inf      likewise over a row
    cond     |A| |A^-1|, in any of them; s_1 / s_k in that of p = 2

Made of operations that are by hand already, and so are their gradients. From dL/dA = U diag(dL/ds)
V^H follow::

    "nuc"    dL/dA = dL/dy U V^H
    2        dL/dA = dL/dy u_1 v_1^H
    1        dL/dA = dL/dy sgn(a_ij) in the column that is the largest, 0 elsewhere

The nuclear norm is to matrices what the 1-norm is to vectors: U V^H is the sign of A. Several that
are equal share the gradient of the largest.

Watson (1992), "Characterization of the subdifferential of some matrix norms".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import under_autocast
from manual_bp.ops.div import div
from manual_bp.ops.extreme import amax, amin
from manual_bp.ops.mul import mul
from manual_bp.ops.narrow import select
from manual_bp.ops.norm import vector_norm
from manual_bp.ops.permute import movedim
from manual_bp.ops.solve import inv_ex
from manual_bp.ops.sum import sum
from manual_bp.ops.svd import distinct, svdvals
from manual_bp.ops.to import to
from manual_bp.ops.view import unsqueeze
from manual_bp.ops.where import masked_fill
from manual_bp.spec import Draw, Sample, Spec, sample

_ORDERS = ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)


def matrix_norm(
    input: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The norm of the matrices in two axes; as ``torch.linalg.matrix_norm``.

    Args:
        input: at least two axes, floating-point or complex
        ord: "fro", "nuc", 1, -1, 2, -2, inf or -inf
        dim: the axes of rows and columns
        keepdim: leave the axes in place, with size 1
        dtype: cast to first

    Raises:
        RuntimeError: From torch, for another order, or where these are not two axes.
    """
    rank = input.dim()
    axes = [d % rank for d in dim if -rank <= d < rank] if rank else []
    if ord not in _ORDERS or len(dim) != 2 or len(set(axes)) != 2:
        return torch.linalg.matrix_norm(input, ord, dim, keepdim, dtype=dtype)  # which says so
    if ord == "fro":
        return vector_norm(input, 2, axes, keepdim, dtype=dtype)
    A = input if dtype is None else to(input, dtype)
    row, column = axes
    if not input.numel() and ord in (1, 2, math.inf) and not _has_candidates(input, ord, axes):
        return torch.linalg.matrix_norm(input, ord, dim, keepdim, dtype=dtype)  # a constant 0
    if ord in ("nuc", 2, -2):
        s = svdvals(movedim(A, (row, column), (-2, -1)))
        y = sum(s, -1) if ord == "nuc" else (amax if ord > 0 else amin)(s, -1)
    else:
        over, rest = (row, column) if abs(ord) == 1 else (column, row)
        y = vector_norm(A, 1, over)
        y = (amax if ord > 0 else amin)(y, rest - (rest > over))
    if keepdim:
        for axis in sorted(axes):
            y = unsqueeze(y, axis)
    return y


def _has_candidates(A: Tensor, ord: float, axes: list[int]) -> bool:
    """Whether there is a singular value, a column or a row to be the largest."""
    rows, columns = (A.shape[axis] for axis in axes)
    return bool({1: columns, math.inf: rows, 2: min(rows, columns)}[ord])


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The p-norm of vectors, or of matrices for "nuc"; as ``torch.norm``.

    Args:
        input: any shape, floating-point
        p: order; "fro" and None for 2; "nuc"
        dim: an axis, several, or None for all
        keepdim: leave the axes in place, with size 1
        out: where to write to, without gradients
        dtype: cast to first
    """
    if p == "nuc" and out is None and (dim is not None or input.dim() == 2):
        axes = (-2, -1) if dim is None else dim
        return matrix_norm(input, "nuc", axes, keepdim, dtype=dtype)
    too_many = p == "fro" and isinstance(dim, (tuple, list)) and len(dim) > 2
    if p == "nuc" or too_many or out is not None:
        return torch.norm(input, p, dim, keepdim, out, dtype)
    order = 2 if p in ("fro", None) else p
    return vector_norm(input, order, dim, keepdim, dtype=dtype)


def linalg_norm(
    input: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The norm of vectors or of matrices, by the number of axes; as ``torch.linalg.norm``.

    Args:
        input: any shape, floating-point or complex
        ord: as of :func:`vector_norm` over one axis, as of :func:`matrix_norm` over two; None for
            2, over as many axes as there are
        dim: an axis, two, or None for all
        keepdim: leave the axes in place, with size 1
        dtype: cast to first
    """
    if ord is None:
        return vector_norm(input, 2, dim, keepdim, dtype=dtype)
    count = input.dim() if dim is None else 1 if isinstance(dim, int) else len(dim)
    if count == 2:
        return matrix_norm(input, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if count != 1 or isinstance(ord, str):
        return torch.linalg.norm(input, ord, dim, keepdim, dtype=dtype)  # which says what it takes
    return vector_norm(input, ord, dim, keepdim, dtype=dtype)


@under_autocast("float32", devices=("cpu",))
def cond(input: Tensor, p: Any = None) -> Tensor:
    """The condition number in the norm ``p``; as ``torch.linalg.cond``.

    Args:
        input: (..., m, n), square unless p is None, 2 or -2; float32, float64 or complex
        p: as ``ord`` of :func:`matrix_norm`; None for 2

    Returns:
        (...), real; inf for a singular matrix.

    Raises:
        RuntimeError: From torch, for another order, or where a matrix is not square.
    """
    is_square = input.dim() > 1 and input.shape[-1] == input.shape[-2]
    if p in (None, 2, -2) and input.dim() > 1 and input.numel():
        s = svdvals(input)
        first, last = select(s, -1, 0), select(s, -1, s.shape[-1] - 1)
        return div(last, first) if p == -2 else div(first, last)
    if p not in _ORDERS or not is_square or not input.numel():
        return torch.linalg.cond(input, p)  # which says so, or that it is 0
    inverse, info = inv_ex(input)
    inverse = masked_fill(inverse, (info > 0)[..., None, None], math.inf)
    y = mul(matrix_norm(input, p), matrix_norm(inverse, p))
    return masked_fill(y, y.isnan(), math.inf)  # 0 times inf


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 4), "nuc")
    yield sample(distinct(draw, 3, 2), label="fro")
    yield sample(distinct(draw, 3, 2), 2, label="largest")
    x = draw(3, 2, 4)
    yield sample(x, -2, (2, 0), True, label="smallest, kept")
    yield sample(x, 1, (0, 2), label="columns")
    yield sample(x, -math.inf, (2, 0), True, label="rows, kept")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), 3, label="no such order")
    yield sample(draw(3, 4), 2, (0, 0), label="an axis twice")
    yield sample(draw(3), label="a vector")


def _norm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), p=1, dim=0, keepdim=True, label="p = 1, an axis kept")
    yield sample(distinct(draw, 4, 3), "nuc", label="nuclear")


def _linalg_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), "fro", label="of a matrix")
    yield sample(distinct(draw, 4, 3), 2, label="largest")
    yield sample(draw(4, 3), 1, 0, label="p = 1, an axis")


def _linalg_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 2, label="three axes")
    yield sample(draw(4), "nuc", label="a vector")


def _cond_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 4))
    yield sample(distinct(draw, 3, 3), -2, label="smallest")
    # Of the norms that take the inverse torch's own backward raises (it writes into its result):
    # they stand in tests/test_linear_algebra.py.


def _cond_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), 1, label="not square")
    yield sample(draw(3, 3), 3, label="no such order")


MATRIX_NORM = Spec(
    name="matrix_norm",
    formula='y = sum_k s_k for "nuc",  max_k s_k for 2,  ...',
    gradient='dA = dy U V^H for "nuc",  dy u_1 v_1^H for 2,  ...',
    manual=matrix_norm,
    native=torch.linalg.matrix_norm,
    samples=_samples,
    refused=_refused,
)
NORM = Spec(
    name="norm",
    formula="y = (sum |x|^p)^(1/p)",
    gradient="dx = dy sign(x) (|x| / y)^(p-1)",
    manual=norm,
    native=torch.norm,
    overrides=(torch.Tensor.norm,),
    samples=_norm_samples,
)
LINALG_NORM = Spec(
    name="linalg_norm",
    formula="y = (sum |x|^p)^(1/p), or of matrices",
    gradient="dx = dy sign(x) (|x| / y)^(p-1), or of matrices",
    manual=linalg_norm,
    native=torch.linalg.norm,
    samples=_linalg_samples,
    refused=_linalg_refused,
)
COND = Spec(
    name="cond",
    formula="y = |A| |A^-1|",
    gradient="as of the norms and the inverse",
    manual=cond,
    native=torch.linalg.cond,
    samples=_cond_samples,
    refused=_cond_refused,
)
