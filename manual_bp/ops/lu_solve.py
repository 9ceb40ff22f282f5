r"""Solve with the factors of a matrix, as often as there are right sides.

Forward, from LU (n, n) and pivots of A = P L U::

    A X = B,  X = A^-1 B          X A = B  with left=False          A^H in A's place with adjoint

Backward. A solve with the factors is a solve with A::

    dL/dB = A^-H dL/dX            dL/dA = -dL/dB X^H                 (for X A = B, -X^H dL/dB)

and A is a product of its factors, which get, as the factors of any product::

    dL/dL = P^T dL/dA U^H         dL/dU = L^H P^T dL/dA             (n, n)

LU holds the two triangles of these. With the adjoint it is A^H that the first line speaks of, and
dL/dA the conjugate transpose of what it says.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.lu import PIVOTS_FIT, factored, packed
from manual_bp.ops.solve import invertible
from manual_bp.spec import Draw, Sample, Spec, sample


class LUSolveFunction(Function):
    """``LU``: (..., n, n), ``pivots``: (..., n), ``B``: (..., n, k), or (..., k, n)."""

    @staticmethod
    def forward(LU: Tensor, pivots: Tensor, B: Tensor, left: bool, adjoint: bool) -> Tensor:
        return torch.linalg.lu_solve(LU, pivots, B, left=left, adjoint=adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        LU, pivots, B, ctx.left, ctx.adjoint = inputs
        ctx.B_shape = B.shape
        ctx.save_for_backward(LU, pivots, output)

    @staticmethod
    def backward(ctx: Any, grad_X: Tensor) -> tuple[Tensor | None, ...]:
        LU, pivots, X = ctx.saved_tensors
        grad_B = torch.linalg.lu_solve(LU, pivots, grad_X, left=ctx.left, adjoint=not ctx.adjoint)
        grad_LU = None
        if ctx.needs_input_grad[0]:
            P, L, U = torch.lu_unpack(LU, pivots)
            first, second = (grad_B, X.mH) if ctx.left else (X.mH, grad_B)
            if ctx.adjoint:
                first, second = second.mH, first.mH
            first = P.mT @ first
            grad_LU = -packed(first @ (second @ U.mH), (L.mH @ first) @ second)
            grad_LU = grad_LU.sum_to_size(LU.shape)
        return grad_LU, None, grad_B.sum_to_size(ctx.B_shape), None, None


def lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """The solution of ``A X = B`` from the factors of A; as ``torch.linalg.lu_solve``.

    Args:
        LU: (..., n, n), as ``lu_factor`` returns it
        pivots: (..., n), int32
        B: (..., n, k), or (..., k, n) where ``left`` is False; batch axes broadcast
        left: False for ``X A = B``
        adjoint: A^H in the place of A

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return LUSolveFunction.apply(LU, pivots, B, left, adjoint)


@under_autocast("float32", devices=("cpu",))
def old_lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """The same, ``B`` first; as ``torch.lu_solve``."""
    return lu_solve(LU_data, LU_pivots, input)


def _solve_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(*factored(invertible(draw, 2, 3, 3)), draw(2, 3, 4))
    yield sample(*factored(draw(3, 3)), draw(2, 4, 3), left=False, label="right, broadcast")
    yield sample(*factored(draw(3, 3)), draw(3, 2), adjoint=True, label="adjoint")
    A, B = draw.complex(3, 3), draw.complex(2, 3)
    yield sample(*factored(A), B, left=False, adjoint=True, label="both, complex")


def _solve_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(*factored(draw(3, 3)), draw(4, 2), label="sizes differ")


SPEC = Spec(
    name="lu_solve",
    formula="P L U X = B",
    gradient="dB = A^-H dX,  dA = -dB X^H,  dL = P^T dA U^H,  dU = L^H P^T dA",
    manual=lu_solve,
    native=torch.linalg.lu_solve,
    inplace={torch.lu_solve: old_lu_solve, torch.Tensor.lu_solve: old_lu_solve},
    samples=_solve_samples,
    refused=_solve_refused,
    skip=PIVOTS_FIT,
)
