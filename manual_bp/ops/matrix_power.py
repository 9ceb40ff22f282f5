r"""Products of many matrices: powers, and chains in the cheapest order.

Forward::

    Y = A^p           p squarings and products as p's binary digits say; (A^-1)^-p for p < 0
    Y = A_1 A_2 ... A_k

Backward: made of matrix products and inverses that are by hand already, and so are the gradients.
Written out, each place at which a matrix stands gets what is before and after it::

    dL/dA   = sum_(j < p) (A^H)^j dL/dY (A^H)^(p-1-j)
    dL/dA_i = (A_1 ... A_(i-1))^H  dL/dY  (A_(i+1) ... A_k)^H

The product is the same whichever two neighbours are taken first, its cost is not: a column times a
row, before another column, is n^2 multiplications for nothing. The cheapest order of a part of the
chain is made of the cheapest orders of its parts; the backward pass takes the brackets in reverse.

Cormen, Leiserson, Rivest & Stein, "Introduction to Algorithms" (3rd edition), section 15.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.clone import clone
from manual_bp.ops.matmul import matmul
from manual_bp.ops.solve import inv, invertible
from manual_bp.ops.view import squeeze, unsqueeze
from manual_bp.ops.where import where
from manual_bp.spec import Draw, Sample, Spec, sample


class SquareFunction(Function):
    """``A``: (..., n, n). dY = dA A + A dA."""

    @staticmethod
    def forward(A: Tensor) -> Tensor:
        return torch.matmul(A, A)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor) -> Tensor:
        (A,) = ctx.saved_tensors
        return grad_Y @ A.mH + A.mH @ grad_Y


@under_autocast("lower")
def _squared(A: Tensor) -> Tensor:
    return SquareFunction.apply(A)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """``A^n``; as ``torch.linalg.matrix_power`` and ``torch.matrix_power``.

    Args:
        input: A, (..., m, m), floating-point or complex
        n: any integer; A must be invertible where it is negative

    Raises:
        RuntimeError: From torch, where a matrix is not square.
    """
    if input.dim() < 2 or input.shape[-1] != input.shape[-2]:
        return torch.linalg.matrix_power(input, n)  # which says so
    if n == 0:  # I, whatever A holds: its gradient is 0
        eye = torch.eye(input.shape[-1], dtype=input.dtype, device=input.device)
        return where(torch.ones_like(input, dtype=torch.bool), eye, input)
    if n == 1:
        return clone(input)
    square, left = (inv(input), -n) if n < 0 else (input, n)
    product = square if left % 2 else None
    while left := left // 2:
        square = _squared(square)
        if left % 2:
            product = square if product is None else matmul(product, square)
    return product  # type: ignore[return-value]


def _of_linalg(A: Tensor, n: int) -> Tensor:
    return matrix_power(A, n)


def multi_dot(tensors: Any) -> Tensor:
    """The product of a chain, in the cheapest order; as ``torch.linalg.multi_dot``.

    Args:
        tensors: at least two matrices; the first may be a vector, a row, and the last, a column

    Returns:
        (m, n), without the axis that a vector does not have.

    Raises:
        RuntimeError: From torch, where there are fewer than two or sizes do not fit.
    """
    chain = list(tensors)
    is_row, is_column = (len(chain) > 1 and chain[i].dim() == 1 for i in (0, -1))
    if is_row:
        chain[0] = unsqueeze(chain[0], 0)
    if is_column:
        chain[-1] = unsqueeze(chain[-1], 1)
    fits = all(a.dim() == b.dim() == 2 and a.shape[1] == b.shape[0] for a, b in pairwise(chain))
    if len(chain) < 2 or not fits:
        return torch.linalg.multi_dot(tensors)  # which says so
    cuts = _cheapest([chain[0].shape[0], *(a.shape[1] for a in chain)])
    y = _product(chain, cuts, 0, len(chain) - 1)
    for axis, is_vector in ((1, is_column), (0, is_row)):
        y = squeeze(y, axis) if is_vector else y
    return y


Cuts = dict[tuple[int, int], int]


def _cheapest(sizes: list[int]) -> Cuts:
    """After which matrix to cut A_i ... A_j, a matrix A_i being sizes[i] x sizes[i + 1]."""
    count = len(sizes) - 1
    cost, cuts = {(i, i): 0 for i in range(count)}, {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            for k in range(i, j):
                whole = sizes[i] * sizes[k + 1] * sizes[j + 1] + cost[i, k] + cost[k + 1, j]
                if k == i or whole < cost[i, j]:
                    cost[i, j], cuts[i, j] = whole, k
    return cuts


def _product(chain: list[Tensor], cuts: Cuts, i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    k = cuts[i, j]
    return matmul(_product(chain, cuts, i, k), _product(chain, cuts, k + 1, j))


def chain_matmul(*matrices: Any, out: Tensor | None = None) -> Tensor:
    """The product of matrices; as ``torch.chain_matmul``."""
    if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)):
        matrices = tuple(matrices[0])
    if out is not None or any(a.dim() != 2 for a in matrices):
        return torch.chain_matmul(*matrices, out=out)
    return clone(matrices[0]) if len(matrices) == 1 else multi_dot(matrices)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 3), 5)
    yield sample(invertible(draw, 3, 3), -3, label="of the inverse")
    yield sample(draw(3, 3), 0, label="0")
    yield sample(draw.complex(2, 2), 2, label="complex")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), 2, label="not square")


def _dot_samples(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(4, 3), draw(3, 5), draw(5, 2), draw(2, 6)])
    yield sample([draw(3), draw(3, 4), draw(4)], label="row, matrix, column")
    yield sample([draw(2, 3), draw(3, 0), draw(0, 4)], label="empty")


def _dot_refused(draw: Draw) -> Iterator[Sample]:
    yield sample([draw(2, 3)], label="one")
    yield sample([draw(2, 3), draw(2, 3)], label="sizes differ")


MATRIX_POWER = Spec(
    name="matrix_power",
    formula="Y = A^p",
    gradient="dA = sum_(j < p) (A^H)^j dY (A^H)^(p-1-j)",
    manual=matrix_power,
    native=torch.matrix_power,
    overrides=(torch.Tensor.matrix_power,),
    inplace={torch.linalg.matrix_power: _of_linalg},
    samples=_samples,
    refused=_refused,
)
MULTI_DOT = Spec(
    name="multi_dot",
    formula="Y = A_1 A_2 ... A_k",
    gradient="dA_i = (A_1 ... A_(i-1))^H dY (A_(i+1) ... A_k)^H",
    manual=multi_dot,
    native=torch.linalg.multi_dot,
    inplace={torch.chain_matmul: chain_matmul},
    samples=_dot_samples,
    refused=_dot_refused,
)
