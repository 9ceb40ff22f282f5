r"""The exponential of a matrix: where the flow x' = A x takes x in one unit of time.

Forward, for ``A`` (n, n)::

    Y = exp(A) = sum_k A^k / k!

Backward. Matrices do not commute, so a change E of A goes through each of its places in A^k::

    dY = D(A, E) = sum_k 1/k! sum_(j < k) A^j E A^(k-1-j)

The transpose of that map takes the same sums with A^H, and a block matrix computes them: the powers
of [[A, E], [0, A]] have exactly the inner sum in their corner. So::

    dL/dA = D(A^H, dL/dY) = upper right corner of exp [[A^H, dL/dY], [0, A^H]]          (n, n)

One exponential of twice the size; the backward of it is again one.

Mathias (1996), "A chain rule for matrix functions and applications", theorem 2.1; Al-Mohy & Higham
(2009), "Computing the Frechet derivative of the matrix exponential".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class MatrixExpFunction(Function):
    """``A``: (..., n, n)."""

    @staticmethod
    def forward(A: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(A)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        (A,) = inputs
        ctx.save_for_backward(A)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor) -> Tensor:
        (A,) = ctx.saved_tensors
        n = A.shape[-1]
        above = torch.cat([A.mH, grad_Y], -1)
        below = torch.cat([torch.zeros_like(A), A.mH], -1)
        return torch.linalg.matrix_exp(torch.cat([above, below], -2))[..., :n, n:]


def matrix_exp(input: Tensor) -> Tensor:
    """The matrix exponential; as ``torch.linalg.matrix_exp`` and ``torch.matrix_exp``.

    Args:
        input: (..., n, n), floating-point or complex

    Raises:
        RuntimeError: From torch, where a matrix is not square.
    """
    return MatrixExpFunction.apply(input)


def _of_linalg(A: Tensor) -> Tensor:
    return matrix_exp(A)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 3))
    yield sample(draw.complex(2, 2), label="complex")
    yield sample(draw(3, 3, scale=5.0), label="large")
    yield sample(draw(0, 0), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), label="not square")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 32, scale=0.1))
    yield sample(draw(256, 256, scale=0.05))


SPEC = Spec(
    name="matrix_exp",
    formula="Y = exp(A)",
    gradient="dA = upper right corner of exp [[A^H, dY], [0, A^H]]",
    manual=matrix_exp,
    native=torch.matrix_exp,
    overrides=(torch.Tensor.matrix_exp,),
    inplace={torch.linalg.matrix_exp: _of_linalg},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
