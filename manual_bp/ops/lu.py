r"""LU: a matrix as a permutation, a lower and an upper triangle.

Forward, for ``A`` (m, n), with k = min(m, n)::

    A = P L U         P a permutation, L (m, k) with a diagonal of 1, U (k, n)
    LU (m, n)         both in one matrix, as they are computed: L below the diagonal, U from it
                      upwards; lu_unpack takes them apart

Backward, first for m = n = k. P does not move. With dA = P (dL U + L dU)::

    L^-1 P^T dA U^-1 = L^-1 dL + dU U^-1 = (strictly lower) + (upper)

so each triangle of the left side is a factor's change, and, read backwards::

    dL/dA = P L^-H (tril(L^H dL/dL, -1) + triu(dL/dU U^H)) U^-H              (n, n)

Where A is wider, U = [U1 U2]; where it is taller, L = [L1; L2]. What is over follows from the
square part, dU2 = L1^-1 P^T dA2 - (L1^-1 dL1) U2 and likewise dL2, so its gradient goes straight
to A's part, and with a minus sign into the middle::

    M = tril(L1^H dL/dL1 - dL/dU2 U2^H, -1) + triu(dL/dU1 U1^H - L2^H dL/dL2)        (k, k)
    dL/dA = P [ L1^-H M U1^-H   L1^-H dL/dU2 ]   or   P [ L1^-H M U1^-H ; dL/dL2 U1^-H ]

The rules of Giles (2008), "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", section 2, applied to P L U.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from manual_bp.function import Function, under_autocast
from manual_bp.ops.solve import invertible
from manual_bp.spec import Draw, Sample, Spec, sample


def _of_product(P: Tensor, L: Tensor, U: Tensor, grad_L: Tensor, grad_U: Tensor) -> Tensor:
    """dL/dA from those of the factors of A."""
    k = L.shape[-1]
    L1, gL1, gL2 = L[..., :k, :], grad_L[..., :k, :], grad_L[..., k:, :]
    U1, gU1, gU2 = U[..., :k], grad_U[..., :k], grad_U[..., k:]
    lower = (L1.mH @ gL1 - gU2 @ U[..., k:].mH).tril(-1)
    upper = (gU1 @ U1.mH - L[..., k:, :].mH @ gL2).triu()
    square = torch.linalg.solve_triangular(U1.mH, lower + upper, upper=False, left=False)
    grad_A = torch.linalg.solve_triangular(
        L1.mH, torch.cat([square, gU2], -1), upper=True, unitriangular=True
    )
    if gL2.shape[-2]:
        below = torch.linalg.solve_triangular(U1.mH, gL2, upper=False, left=False)
        grad_A = torch.cat([grad_A, below], -2)
    return P @ grad_A


class LUFactorFunction(Function):
    """``A``: (..., m, n). Returns LU, the pivots, and 0 or the first zero on U's diagonal."""

    @staticmethod
    def forward(A: Tensor, pivot: bool) -> tuple[Tensor, Tensor, Tensor]:
        LU, pivots, info = torch.linalg.lu_factor_ex(A, pivot=pivot)
        return LU, pivots, info

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        LU, pivots, info = output
        ctx.mark_non_differentiable(pivots, info)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(LU, pivots)

    @staticmethod
    def backward(ctx: Any, grad_LU: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_LU is None:
            return None, None
        LU, pivots = ctx.saved_tensors
        P, L, U = torch.lu_unpack(LU, pivots)
        k = L.shape[-1]
        return _of_product(P, L, U, grad_LU[..., :k].tril(-1), grad_LU[..., :k, :].triu()), None


def packed(grad_L: Tensor, grad_U: Tensor) -> Tensor:
    """The gradient of LU, the two factors in one matrix, from that of each."""
    k = grad_L.shape[-1]
    below = pad(grad_L.tril(-1), (0, grad_U.shape[-1] - k))
    return below + pad(grad_U.triu(), (0, 0, 0, grad_L.shape[-2] - k))


class LUUnpackFunction(Function):
    """``LU``: (..., m, n), ``pivots``: (..., k). Returns P, L and U, or empty ones."""

    @staticmethod
    def forward(
        LU: Tensor, pivots: Tensor, unpack_data: bool, unpack_pivots: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        P, L, U = torch.lu_unpack(LU, pivots, unpack_data, unpack_pivots)
        return P, L, U

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        P, L, U = output
        ctx.mark_non_differentiable(*(output if not inputs[2] else (P,)))
        ctx.L_shape, ctx.U_shape = L.shape, U.shape
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, _: None, grad_L: Tensor | None, grad_U: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        some = grad_L if grad_U is None else grad_U
        if some is None:
            return None, None, None, None
        grad_L = some.new_zeros(ctx.L_shape) if grad_L is None else grad_L
        grad_U = some.new_zeros(ctx.U_shape) if grad_U is None else grad_U
        return packed(grad_L, grad_U), None, None, None


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """Permutation, lower and upper triangle; as ``torch.linalg.lu``.

    Args:
        A: (..., m, n); float32, float64 or complex
        pivot: False, on a GPU, for A = L U

    Returns:
        P (..., m, m), L (..., m, k) and U (..., k, n), with k = min(m, n).

    Raises:
        RuntimeError: From torch, where there are no two axes.
    """
    if A.dim() < 2:
        return torch.linalg.lu(A, pivot=pivot)  # which says so
    LU, pivots, _ = LUFactorFunction.apply(A, pivot)
    P, L, U = LUUnpackFunction.apply(LU, pivots, True, pivot)
    return torch.return_types.linalg_lu((P, L, U))  # type: ignore[attr-defined]


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """L and U in one matrix, and the pivots; as ``torch.linalg.lu_factor``.

    Args:
        A: (..., m, n); float32, float64 or complex
        pivot: False, on a GPU, for A = L U

    Returns:
        LU (..., m, n), and pivots (..., k), int32: with which row each was exchanged, from 1.

    Raises:
        torch.linalg.LinAlgError: From torch, for a zero on U's diagonal.
    """
    LU, pivots, info = LUFactorFunction.apply(A, pivot)
    torch._linalg_check_errors(info, "torch.linalg.lu_factor", is_matrix=A.dim() == 2)
    return torch.return_types.linalg_lu_factor((LU, pivots))  # type: ignore[attr-defined]


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """As :func:`lu_factor`, with an error code; as ``torch.linalg.lu_factor_ex``."""
    factors = LUFactorFunction.apply(A, pivot)
    if check_errors:
        torch._linalg_check_errors(factors[2], "torch.linalg.lu_factor_ex", is_matrix=A.dim() == 2)
    return torch.return_types.linalg_lu_factor_ex(factors)  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def old_lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """LU, pivots and, if asked for, the error code; as ``torch.lu``."""
    if out is not None:
        return torch.lu(A, pivot, get_infos, out=out)
    factors = lu_factor_ex(A, pivot=pivot)
    return tuple(factors) if get_infos else tuple(factors)[:2]


def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """P, L and U out of what ``lu_factor`` returns; as ``torch.lu_unpack``.

    Args:
        LU_data: (..., m, n)
        LU_pivots: (..., k), int32
        unpack_data: False for an empty L and U
        unpack_pivots: False for an empty P
    """
    factors = LUUnpackFunction.apply(LU_data, LU_pivots, unpack_data, unpack_pivots)
    return torch.return_types.lu_unpack(factors)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    yield sample(draw(2, 3, 5), label="wide")
    yield sample(draw(5, 3), label="tall")
    yield sample(draw.complex(3, 4), label="complex")
    yield sample(draw(0, 3), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), label="one axis")


def _factor_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    yield sample(draw(2, 3, 5), label="wide")
    yield sample(draw(5, 3), label="tall")


def _factor_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(torch.zeros_like(draw(3, 3)), label="singular")


def factored(A: Tensor) -> tuple[Tensor, Tensor]:
    """LU, which requires a gradient, and the pivots."""
    LU, pivots = torch.linalg.lu_factor(A.detach())
    return LU.requires_grad_(), pivots


def _unpack_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(*factored(invertible(draw, 2, 3, 3)))
    yield sample(*factored(draw(3, 5)), label="wide")
    yield sample(*factored(draw(5, 3)), unpack_pivots=False, label="tall")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 64, 64))
    yield sample(invertible(draw, 384, 384))


# Probes that would let pivots point outside of the matrix, where torch reads and writes.
PIVOTS_FIT = ("indices", "sizes", "empty")

LU = Spec(
    name="lu",
    formula="A = P L U",
    gradient="dA = P L^-H (tril(L^H dL, -1) + triu(dU U^H)) U^-H",
    manual=lu,
    native=torch.linalg.lu,
    samples=_samples,
    refused=_refused,
)
LU_FACTOR = Spec(
    name="lu_factor",
    formula="A = P L U,  L and U in one matrix",
    gradient="as of lu, from the two triangles",
    manual=lu_factor,
    native=torch.linalg.lu_factor,
    inplace={
        torch.linalg.lu_factor_ex: lu_factor_ex,
        torch.lu: old_lu,
        torch.Tensor.lu: old_lu,
    },
    samples=_factor_samples,
    refused=_factor_refused,
    bench=_bench,
)
LU_UNPACK = Spec(
    name="lu_unpack",
    formula="LU = tril(L, -1) + U",
    gradient="dLU = tril(dL, -1) + triu(dU)",
    manual=lu_unpack,
    native=torch.lu_unpack,
    samples=_unpack_samples,
    skip=PIVOTS_FIT,
)
