r"""The pseudoinverse, and least squares by it.

Forward, for ``A`` (m, n)::

    P = A^+  (n, m)                       A P A = A, P A P = P, A P and P A Hermitian
    X = A^+ B,  r_j = sum_i (A X - B)_ij^2           lstsq, the X of least squares; A of full rank

Backward. While the rank of A stays what it is (Golub & Pereyra)::

    dP = -P dA P  +  P P^H dA^H (I - A P)  +  (I - P A) dA^H P^H P

The first term is the inverse's. The others are what A's change adds to the rows and columns that
P takes no part in; I - A P and I - P A lead there. Read backwards, with G = dL/dP (n, m)::

    dL/dA = -P^H G P^H  +  (I - A P) G^H P P^H  +  P^H P G^H (I - P A)               (m, n)

Least squares is a product with P, of which G = dL/dX B^H and::

    dL/dB = P^H dL/dX                                (m, k)

Its residuals are the least there are, so X, if it moves, does not move them; with D = A X - B and
dL/dr as one factor for each column::

    dL/dB = -2 D dL/dr,     dL/dA = 2 D dL/dr X^H    which come in addition

The second order follows where these formulas, in A and P, are differentiated in turn.

Golub & Pereyra (1973), "The differentiation of pseudo-inverses and nonlinear least squares problems
whose variables separate", section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.svd import distinct
from manual_bp.spec import Draw, Sample, Spec, sample


def _of_A(A: Tensor, P: Tensor, G: Tensor) -> Tensor:
    """dL/dA as above; what stands between the brackets is of the smaller size, m or n."""
    if A.shape[-2] >= A.shape[-1]:
        second, third = G.mH @ (P @ P.mH), P.mH @ (P @ G.mH)
    else:
        second, third = (G.mH @ P) @ P.mH, (P.mH @ P) @ G.mH
    outside = second - A @ (P @ second) + third - (third @ P) @ A
    return outside - P.mH @ G @ P.mH


class PinvFunction(Function):
    """``A``: (..., m, n); ``options``: tolerances, and whether A is Hermitian."""

    @staticmethod
    def forward(A: Tensor, options: dict[str, Any]) -> Tensor:
        return torch.linalg.pinv(A, **options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        A, _ = inputs
        ctx.save_for_backward(A, output)

    @staticmethod
    def backward(ctx: Any, grad_P: Tensor) -> tuple[Tensor | None, ...]:
        A, P = ctx.saved_tensors
        # Under autocast the product that makes P is in 16 bits.
        return _of_A(A, P.to(A.dtype), grad_P.to(A.dtype)), None


class LstsqFunction(Function):
    """``A``: (..., m, n), ``B``: (..., m, k) or (..., m). Returns what torch returns."""

    @staticmethod
    def forward(
        A: Tensor, B: Tensor, rcond: float | None, driver: str | None
    ) -> tuple[Tensor, ...]:
        return tuple(torch.linalg.lstsq(A, B, rcond, driver=driver))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        A, B, _, _ = inputs
        X, _, rank, singular_values = output
        ctx.is_column = X.dim() < A.dim()
        ctx.mark_non_differentiable(rank, singular_values)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(A, B, X)

    @staticmethod
    def backward(
        ctx: Any, grad_X: Tensor | None, grad_r: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        A, B, X = ctx.saved_tensors
        if ctx.is_column:
            B, X = B.unsqueeze(-1), X.unsqueeze(-1)
            grad_X = None if grad_X is None else grad_X.unsqueeze(-1)
        grad_A = grad_B = None
        if grad_X is not None:
            P = torch.linalg.pinv(A)
            grad_A, grad_B = _of_A(A, P, grad_X @ B.mH), P.mH @ grad_X
        if grad_r is not None and grad_r.numel():
            D = 2 * (A @ X - B) * grad_r.unsqueeze(-2)
            grad_A = D @ X.mH if grad_A is None else grad_A + D @ X.mH
            grad_B = -D if grad_B is None else grad_B - D
        if ctx.is_column and grad_B is not None:
            grad_B = grad_B.squeeze(-1)
        return grad_A, grad_B, None, None


@under_autocast("float32", devices=("cpu",))
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudoinverse; as ``torch.pinverse``, arguments as of :func:`pinv`."""
    return PinvFunction.apply(input, {"rcond": rcond})


def pinv(
    input: Tensor,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Tensor:
    """The pseudoinverse; as ``torch.linalg.pinv``.

    Args:
        input: (..., m, n); float32, float64 or complex
        rcond: as ``rtol``
        hermitian: take the eigenvalues of one triangle for the singular values
        atol: singular values up to it count as 0; a number or a tensor (...)
        rtol: likewise, as a multiple of the largest

    Returns:
        (..., n, m)

    Raises:
        RuntimeError: From torch, where there are no two axes.
    """
    given = {"rcond": rcond, "atol": atol, "rtol": rtol}
    options = {name: value for name, value in given.items() if value is not None}
    return PinvFunction.apply(input, options | {"hermitian": hermitian})


@under_autocast("float32", devices=("cpu",))
def lstsq(
    input: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    """The X of the smallest ``|A X - B|``; as ``torch.linalg.lstsq``.

    Args:
        input: A, (..., m, n), of full rank; float32, float64 or complex
        b: B, (..., m, k), or (..., m)
        rcond: singular values up to it, relative to the largest, count as 0
        driver: LAPACK's way: "gelsy", "gels", "gelsd" or "gelss"

    Returns:
        The solution (..., n, k); the squared residuals (..., k), if m > n and the driver has them,
        or else empty; the rank and the singular values, likewise, which have no gradient.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return torch.return_types.linalg_lstsq(  # type: ignore[attr-defined]
        LstsqFunction.apply(input, b, rcond, driver)
    )


def _pinv_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 3))
    yield sample(distinct(draw, 5, 3), label="tall")
    yield sample(distinct(draw, 2, 3, 4), 1e-3, label="wide, tolerance")
    yield sample(draw.complex(3, 2), label="complex")
    low = draw.fixed(4, 2) @ draw.fixed(2, 3)  # of rank 2, which a numerical step would raise
    yield sample(low.requires_grad_(), 1e-8, label="low rank", smooth=False)
    yield sample(draw(0, 3), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), label="one axis")


# gradcheck does not take outputs that are empty; it is put to the others in tests of their own.
def _lstsq_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 3), draw(2, 3, 2), smooth=False)
    yield sample(distinct(draw, 5, 3), draw(5, 2), driver="gels", label="tall, residuals")
    yield sample(distinct(draw, 2, 5, 3), draw(2, 5), driver="gelsd", label="columns", smooth=False)
    yield sample(distinct(draw, 3, 5), draw(3, 2), label="wide")


def _lstsq_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(5, 2), label="sizes differ")


_GRADIENT = "dA = -P^H G P^H + (I - A P) G^H P P^H + P^H P G^H (I - P A),  G = dP"

PINV = Spec(
    name="pinverse",
    formula="P = A^+",
    gradient=_GRADIENT,
    manual=pinverse,
    native=torch.pinverse,
    overrides=(torch.Tensor.pinverse,),
    inplace={torch.linalg.pinv: pinv},
    samples=_pinv_samples,
    refused=_refused,
)
LSTSQ = Spec(
    name="lstsq",
    formula="X = A^+ B",
    gradient="dB = P^H dX,  dA as of pinv with G = dX B^H",
    manual=lstsq,
    native=torch.linalg.lstsq,
    samples=_lstsq_samples,
    refused=_lstsq_refused,
    compiles=False,  # as little as torch's own
)
