r"""Cholesky: a positive definite matrix as a lower triangle times its mirror image.

Forward, for a Hermitian ``A`` (n, n), of which only the lower triangle is read::

    A = L L^H                            L lower triangular, its diagonal real and positive
    X = A^-1 B  = L^-H L^-1 B            cholesky_solve, from L
    A^-1 = L^-H L^-1                     cholesky_inverse, from L

Backward. A change dA = dL L^H + L dL^H, seen from inside the factors, is a lower triangle and its
mirror image::

    L^-1 dA L^-H = P + P^H,   P = L^-1 dL

so P is the lower triangle of the left side with half of its diagonal. Read backwards, with
P's gradient L^H dL/dL, of which the lower triangle counts::

    dL/dA = L^-H  1/2 (T + tril(T, -1)^H)  L^-1,    T = tril(L^H dL/dL)    (n, n)

A is Hermitian, and so is its gradient: each of a_ij and a_ji is given half of what both together
do, which is where the half of the diagonal has gone, too.

With dA as above, a gradient of A = L L^H itself is one of L as (dL/dA + dL/dA^H) L. Hence for X,
which is a solve with A, and for the inverse ``Y``, whose change is -Y dA Y::

    dL/dB = A^-1 dL/dX                   (n, k)     as the solve itself, A being Hermitian
    dL/dL = -(dL/dB X^H + X dL/dB^H) L   (n, n)
    dL/dL = -Y (dL/dY + dL/dY^H) Y L     (n, n)

As torch does, the last two give the whole matrix, though only its lower triangle was read. An
upper factor is U = L^H; what is said of L holds of U^H.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation"; Murray (2016), "Differentiation of the Cholesky decomposition"; Seeger et al.
(2017), "Auto-differentiating linear algebra".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class CholeskyFunction(Function):
    """``A``: (..., n, n). Returns the factor, and 0 or where the factorization ended."""

    @staticmethod
    def forward(A: Tensor, upper: bool) -> tuple[Tensor, Tensor]:
        L, info = torch.linalg.cholesky_ex(A, upper=upper)
        return L, info

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, ctx.upper = inputs
        L, info = output
        ctx.mark_non_differentiable(info)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(L)

    @staticmethod
    def backward(ctx: Any, grad_L: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_L is None:
            return None, None
        (L,) = ctx.saved_tensors
        if ctx.upper:
            L, grad_L = L.mH, grad_L.mH
        T = (L.mH @ grad_L).tril()
        # An imaginary diagonal, to which nothing in A answers, goes through as in torch.
        middle = 0.5 * (T + T.tril(-1).mH)
        left = torch.linalg.solve_triangular(L.mH, middle, upper=True)
        return torch.linalg.solve_triangular(L, left, upper=False, left=False), None


class CholeskySolveFunction(Function):
    """``B``: (..., n, k), ``L``: (..., n, n); batch axes broadcast."""

    @staticmethod
    def forward(B: Tensor, L: Tensor, upper: bool) -> Tensor:
        return torch.cholesky_solve(B, L, upper)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        B, L, ctx.upper = inputs
        ctx.B_shape = B.shape
        ctx.save_for_backward(L, output)

    @staticmethod
    def backward(ctx: Any, grad_X: Tensor) -> tuple[Tensor | None, ...]:
        L, X = ctx.saved_tensors
        grad_B = torch.cholesky_solve(grad_X, L, ctx.upper)
        grad_L = None
        if ctx.needs_input_grad[1]:
            of_A = grad_B @ X.mH
            of_A = -(of_A + of_A.mH)
            grad_L = (L @ of_A if ctx.upper else of_A @ L).sum_to_size(L.shape)
        return grad_B.sum_to_size(ctx.B_shape), grad_L, None


class CholeskyInverseFunction(Function):
    """``L``: (..., n, n)."""

    @staticmethod
    def forward(L: Tensor, upper: bool) -> Tensor:
        return torch.cholesky_inverse(L, upper)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        L, ctx.upper = inputs
        ctx.save_for_backward(L, output)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor) -> tuple[Tensor | None, ...]:
        L, Y = ctx.saved_tensors
        of_A = -(Y @ (grad_Y + grad_Y.mH) @ Y)
        return L @ of_A if ctx.upper else of_A @ L, None


@under_autocast("float32", devices=("cpu",))
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The Cholesky factor; as ``torch.linalg.cholesky`` and ``torch.cholesky``.

    Args:
        input: (..., n, n), Hermitian and positive definite; float32, float64 or complex
        upper: read the upper triangle and return L^H

    Returns:
        (..., n, n)

    Raises:
        torch.linalg.LinAlgError: From torch, where a matrix is not positive definite.
    """
    L, info = CholeskyFunction.apply(input, upper)
    torch._linalg_check_errors(info, "linalg.cholesky", is_matrix=input.dim() == 2)
    return L


@under_autocast("float32", devices=("cpu",))
def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The Cholesky factor and an error code; as ``torch.linalg.cholesky_ex``."""
    L, info = CholeskyFunction.apply(input, upper)
    if check_errors:
        torch._linalg_check_errors(info, "linalg.cholesky_ex", is_matrix=input.dim() == 2)
    return torch.return_types.linalg_cholesky_ex((L, info))  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False) -> Tensor:
    """The solution of ``A X = B`` from the Cholesky factor of A; as ``torch.cholesky_solve``.

    Args:
        input: B, (..., n, k)
        input2: L, (..., n, n), of which one triangle is read
        upper: it is L^H that is given

    Returns:
        (..., n, k)

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return CholeskySolveFunction.apply(input, input2, upper)


@under_autocast("float32", devices=("cpu",))
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A from its Cholesky factor; as ``torch.cholesky_inverse``.

    Args:
        input: L, (..., n, n), of which one triangle is read
        upper: it is L^H that is given
    """
    return CholeskyInverseFunction.apply(input, upper)


def positive_definite(draw: Draw, *shape: int) -> Tensor:
    """A batch of symmetric, well-conditioned matrices, (..., n, n)."""
    x = draw.fixed(*shape)
    spread = 1 + torch.arange(shape[-1], dtype=x.dtype, device=x.device)
    return (0.3 * (x @ x.mT) + spread.diag()).requires_grad_()


def _lower(draw: Draw, *shape: int) -> Tensor:
    return torch.linalg.cholesky(positive_definite(draw, *shape).detach()).requires_grad_()


# A numerical derivative moves one of two elements that are equal, or one that is never read.
def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(positive_definite(draw, 2, 3, 3), smooth=False)
    yield sample(positive_definite(draw, 3, 3), upper=True, label="upper", smooth=False)
    x = draw.complex(3, 3).detach()
    A = x @ x.mH + 3 * torch.eye(3, dtype=x.dtype, device=x.device)
    yield sample(A.requires_grad_(), label="complex", smooth=False)
    yield sample(positive_definite(draw, 0, 0), label="empty", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), label="not square")
    yield sample(-positive_definite(draw, 3, 3), label="negative")
    yield sample(-positive_definite(draw, 2, 3, 3), label="negative ones")


def _solve_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 2), _lower(draw, 2, 3, 3), smooth=False)
    upper = _lower(draw, 4, 3, 3).detach().mT.contiguous().requires_grad_()
    yield sample(draw(2, 1, 3, 2), upper, True, label="upper, broadcast", smooth=False)


def _solve_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 2), _lower(draw, 3, 3), label="sizes differ")


def _inverse_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(_lower(draw, 2, 3, 3), smooth=False)
    upper = _lower(draw, 3, 3).detach().mT.contiguous().requires_grad_()
    yield sample(upper, True, label="upper", smooth=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(positive_definite(draw, 64, 64))
    yield sample(positive_definite(draw, 384, 384))


CHOLESKY = Spec(
    name="cholesky",
    formula="A = L L^H",
    gradient="dA = L^-H sym(tril(L^H dL)) L^-1",
    manual=cholesky,
    native=torch.linalg.cholesky,
    overrides=(torch.cholesky, torch.Tensor.cholesky),
    inplace={torch.linalg.cholesky_ex: cholesky_ex},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
CHOLESKY_SOLVE = Spec(
    name="cholesky_solve",
    formula="X = (L L^H)^-1 B",
    gradient="dB = (L L^H)^-1 dX,  dL = -(dB X^H + X dB^H) L",
    manual=cholesky_solve,
    native=torch.cholesky_solve,
    overrides=(torch.Tensor.cholesky_solve,),
    samples=_solve_samples,
    refused=_solve_refused,
)
CHOLESKY_INVERSE = Spec(
    name="cholesky_inverse",
    formula="Y = (L L^H)^-1",
    gradient="dL = -Y (dY + dY^H) Y L",
    manual=cholesky_inverse,
    native=torch.cholesky_inverse,
    overrides=(torch.Tensor.cholesky_inverse,),
    samples=_inverse_samples,
)
