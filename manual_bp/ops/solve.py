r"""Solve a system of linear equations; the inverse of a matrix.

Forward, with ``A`` (n, n) invertible and ``B`` (n, k), or (n) for one column::

    A X = B,   X = A^-1 B                 X A = B,   X = B A^-1      (left=False, B (k, n))
    A Y = I,   Y = A^-1                   (n, n)

Backward. From dA X + A dX = dB follows dX = A^-1 (dB - dA X): the gradient that reaches B has gone
through the solve with A^H, and A's is that of the product A X, with the sign of the other side::

    dL/dB = A^-H dL/dX                    dL/dB = dL/dX A^-H         the shape of B
    dL/dA = -dL/dB X^H                    dL/dA = -X^H dL/dB         (n, n)
    dL/dA = -Y^H dL/dY Y^H                for the inverse, dY = -Y dA Y

The factors P L U = A that the forward made serve the backward: (P L U)^-H takes the same triangles
in the other order, and what costs n^3 is done once. To be differentiated in turn the backward
solves anew, since the factors are no constants.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", sections 2.2.3 and 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class SolveFunction(Function):
    """``A``: (..., n, n), ``B``: (..., n, k), (..., k, n) on the left of A, or (..., n).

    Returns the solution, A's factors and pivots, and 0 or where the factorization ended.
    """

    @staticmethod
    def forward(A: Tensor, B: Tensor, left: bool) -> tuple[Tensor, ...]:
        return tuple(torch._linalg_solve_ex(A, B, left=left))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        A, B, ctx.left = inputs
        X, LU, pivots, info = output
        ctx.is_column = B.dim() == 1 or B.shape == A.shape[:-1]
        ctx.B_shape = B.shape
        ctx.mark_non_differentiable(LU, pivots, info)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(A, X, LU, pivots)

    @staticmethod
    def backward(ctx: Any, grad_X: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_X is None:
            return None, None, None
        A, X, LU, pivots = ctx.saved_tensors
        if ctx.is_column:
            X, grad_X = X.unsqueeze(-1), grad_X.unsqueeze(-1)
        if is_recorded():
            grad_B = torch.linalg.solve(A.mH, grad_X, left=ctx.left)
        else:
            grad_B = torch.linalg.lu_solve(LU, pivots, grad_X, left=ctx.left, adjoint=True)
        grad_A = None
        if ctx.needs_input_grad[0]:
            grad_A = grad_B @ X.mH if ctx.left else X.mH @ grad_B
            grad_A = -grad_A.sum_to_size(A.shape)
        if ctx.is_column:
            grad_B = grad_B.squeeze(-1)
        return grad_A, grad_B.sum_to_size(ctx.B_shape), None


class InverseFunction(Function):
    """``A``: (..., n, n). Returns the inverse, and 0 or where the factorization ended."""

    @staticmethod
    def forward(A: Tensor) -> tuple[Tensor, Tensor]:
        Y, info = torch.linalg.inv_ex(A)
        return Y, info

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        Y, info = output
        ctx.mark_non_differentiable(info)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(Y)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor | None, _: None) -> Tensor | None:
        if grad_Y is None:
            return None
        (Y,) = ctx.saved_tensors
        return -(Y.mH @ grad_Y @ Y.mH)


@under_autocast("float32", devices=("cpu",))
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The solution of ``A X = B``; as ``torch.linalg.solve``.

    Args:
        A: (..., n, n), invertible; float32, float64 or complex
        B: (..., n, k), or (..., k, n) where ``left`` is False; (n) or the shape of A without its
            last axis for columns. Batch axes broadcast
        left: False for ``X A = B``

    Returns:
        The shape of ``B``, its batch axes broadcast.

    Raises:
        torch.linalg.LinAlgError: From torch, where a matrix is singular.
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    X, _, _, info = SolveFunction.apply(A, B, left)
    torch._linalg_check_errors(info, "torch.linalg.solve", is_matrix=A.dim() == 2)
    return X


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """The solution and an error code; as ``torch.linalg.solve_ex``."""
    X, _, _, info = SolveFunction.apply(A, B, left)
    if check_errors:
        torch._linalg_check_errors(info, "torch.linalg.solve_ex", is_matrix=A.dim() == 2)
    return torch.return_types.linalg_solve_ex((X, info))  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def inv(A: Tensor) -> Tensor:
    """The inverse; as ``torch.linalg.inv`` and ``torch.inverse``.

    Args:
        A: (..., n, n), invertible; float32, float64 or complex

    Raises:
        torch.linalg.LinAlgError: From torch, where a matrix is singular.
    """
    Y, info = InverseFunction.apply(A)
    torch._linalg_check_errors(info, "linalg.inv", is_matrix=A.dim() == 2)
    return Y


@under_autocast("float32", devices=("cpu",))
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """The inverse and an error code; as ``torch.linalg.inv_ex``."""
    Y, info = InverseFunction.apply(A)
    if check_errors:
        torch._linalg_check_errors(info, "linalg.inv_ex", is_matrix=A.dim() == 2)
    return torch.return_types.linalg_inv_ex((Y, info))  # type: ignore[attr-defined]


def inverse(input: Tensor) -> Tensor:
    """The inverse; as ``torch.inverse``."""
    return inv(input)


def invertible(draw: Draw, *shape: int) -> Tensor:
    """A batch of matrices in general position, well-conditioned, (..., n, n)."""
    x = draw.fixed(*shape)
    spread = 2 + torch.arange(shape[-1], dtype=x.dtype, device=x.device)
    return (0.5 * x + spread.diag()).requires_grad_()


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3), draw(2, 3, 4))
    yield sample(invertible(draw, 3, 3).detach().mT.requires_grad_(), draw(3), label="a column")
    yield sample(invertible(draw, 3, 3), draw(2, 4, 3), left=False, label="right, broadcast")
    yield sample(invertible(draw, 2, 3, 3), draw(2, 3), label="columns")
    yield sample(draw.complex(3, 3), draw.complex(3), label="complex")
    yield sample(invertible(draw, 3, 3), draw(3, 0), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 3), draw(4, 2), label="sizes differ")
    yield sample(draw(3, 4), draw(4, 2), label="not square")
    yield sample(torch.zeros_like(draw(2, 3, 3)), draw(3, 2), label="singular")


def _inv_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    yield sample(draw.complex(3, 3), label="complex")
    yield sample(draw(0, 0), label="empty")


def _inv_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), label="not square")
    yield sample(torch.zeros_like(draw(3, 3)), label="singular")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 64, 64), draw(64, 8))
    yield sample(invertible(draw, 512, 512), draw(512, 64))


SOLVE = Spec(
    name="solve",
    formula="A X = B",
    gradient="dB = A^-H dX,  dA = -dB X^H",
    manual=solve,
    native=torch.linalg.solve,
    inplace={torch.linalg.solve_ex: solve_ex},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
INV = Spec(
    name="inv",
    formula="Y = A^-1",
    gradient="dA = -Y^H dY Y^H",
    manual=inv,
    native=torch.linalg.inv,
    inplace={torch.linalg.inv_ex: inv_ex, torch.inverse: inverse, torch.Tensor.inverse: inverse},
    samples=_inv_samples,
    refused=_inv_refused,
)
