r"""Solve with a triangle: from the one unknown that stands alone, row by row to the last.

Forward, with ``A`` (n, n) triangular and ``B`` (n, k)::

    A X = B,   X = A^-1 B                 X A = B,   X = B A^-1      (left=False, B (k, n))

Backward. From dA X + A dX = dB follows dX = A^-1 (dB - dA X): the gradient that reaches B has gone
through the solve with A^H, and A's is that of the product A X, with the sign of the other side::

    dL/dB = A^-H dL/dX                    dL/dB = dL/dX A^-H         the shape of B
    dL/dA = -dL/dB X^H                    dL/dA = -X^H dL/dB         (n, n)

of which the triangle that was read is kept; without the diagonal, where that was taken as 1. A^H
of an upper triangle is a lower one: the backward begins at the unknown where the forward ended.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.clone import clone
from manual_bp.ops.expand import expand
from manual_bp.ops.permute import transpose
from manual_bp.spec import Draw, Sample, Spec, sample


class SolveTriangularFunction(Function):
    """``A``: (..., n, n), ``B``: (..., n, k), or (..., k, n) on the left of A."""

    @staticmethod
    def forward(A: Tensor, B: Tensor, upper: bool, left: bool, unitriangular: bool) -> Tensor:
        return torch.linalg.solve_triangular(
            A, B, upper=upper, left=left, unitriangular=unitriangular
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        A, B, ctx.upper, ctx.left, ctx.unitriangular = inputs
        ctx.B_shape = B.shape
        ctx.save_for_backward(A, output)

    @staticmethod
    def backward(ctx: Any, grad_X: Tensor) -> tuple[Tensor | None, ...]:
        A, X = ctx.saved_tensors
        grad_B = torch.linalg.solve_triangular(
            A.mH, grad_X, upper=not ctx.upper, left=ctx.left, unitriangular=ctx.unitriangular
        )
        grad_A = None
        if ctx.needs_input_grad[0]:
            grad_A = grad_B @ X.mH if ctx.left else X.mH @ grad_B
            grad_A = -grad_A.sum_to_size(A.shape)
            diagonal = int(ctx.unitriangular)
            grad_A = grad_A.triu(diagonal) if ctx.upper else grad_A.tril(-diagonal)
        return grad_A, grad_B.sum_to_size(ctx.B_shape), None, None, None


def solve_triangular(
    input: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """The solution of ``A X = B``, A triangular; as ``torch.linalg.solve_triangular``.

    Args:
        input: A, (..., n, n), of which one triangle is read; float32, float64 or complex
        B: (..., n, k), or (..., k, n) where ``left`` is False; batch axes broadcast
        upper: A is an upper triangle
        left: False for ``X A = B``
        unitriangular: take A's diagonal as 1, whatever it holds

    Returns:
        The shape of ``B``, its batch axes broadcast.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return SolveTriangularFunction.apply(input, B, upper, left, unitriangular)


@under_autocast("float32", devices=("cpu",))
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """The solution, and a copy of ``A`` in its batch's shape; as ``torch.triangular_solve``.

    Args:
        input: B, (..., n, k)
        A: (..., n, n)
        upper: A is an upper triangle
        transpose: solve ``A^T X = B``
        unitriangular: take A's diagonal as 1
    """
    triangle, above = (_mT(A), not upper) if transpose else (A, upper)
    X = solve_triangular(triangle, input, upper=above, unitriangular=unitriangular)
    copy = clone(expand(A, *X.shape[:-2], *A.shape[-2:]))
    return torch.return_types.triangular_solve((X, copy))


def _mT(A: Tensor) -> Tensor:
    return transpose(A, -2, -1)


def _triangle(draw: Draw, *shape: int) -> Tensor:
    """Both triangles are filled, so that reading the wrong one is seen."""
    x = draw.fixed(*shape)
    return (x + 3 * torch.eye(shape[-1], dtype=x.dtype, device=x.device)).requires_grad_()


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(_triangle(draw, 2, 3, 3), draw(2, 3, 4), upper=True)
    yield sample(_triangle(draw, 3, 3), draw(2, 4, 3), upper=False, left=False, label="right")
    yield sample(
        _triangle(draw, 3, 3), draw(3, 2), upper=False, unitriangular=True, label="unit diagonal"
    )
    yield sample(_triangle(draw, 2, 1, 3, 3), draw(4, 3, 2), upper=True, label="broadcast")
    yield sample(draw.complex(3, 3), draw.complex(3, 2), upper=True, label="complex")
    yield sample(_triangle(draw, 3, 3), draw(3, 0), upper=True, label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(_triangle(draw, 3, 3), draw(4, 2), upper=True, label="sizes differ")
    yield sample(draw(3, 4), draw(4, 2), upper=True, label="not square")


SOLVE_TRIANGULAR = Spec(
    name="solve_triangular",
    formula="A X = B,  A triangular",
    gradient="dB = A^-H dX,  dA = -dB X^H, its triangle",
    manual=solve_triangular,
    native=torch.linalg.solve_triangular,
    inplace={
        torch.triangular_solve: triangular_solve,
        torch.Tensor.triangular_solve: triangular_solve,
    },
    samples=_samples,
    refused=_refused,
)
