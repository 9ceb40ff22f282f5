r"""The determinant: the volume that a matrix makes of a unit cube; and its logarithm.

Forward, for ``A`` (n, n)::

    d = det A                            slogdet: s = d / |d|  and  l = log |d|
                                         logdet:  log d, NaN where d < 0

Backward. The determinant is linear in each element, with the cofactor C_ij as its factor; where A
is invertible, C = d A^-T (Jacobi)::

    dL/dA = dL/dd conj(d) A^-H           (n, n)
    dL/dA = c A^-H,   c = dL/dl + i Im(conj(s) dL/ds)

for log d changes by t = tr(A^-1 dA), of which the real part goes to l and the imaginary part turns
s. For real numbers s does not move, and c = dL/dl.

A singular matrix has cofactors, too, but no inverse. They are those of its singular values, where
A = U S V^H: each is the product of the others, and U, V only turn them (det U det V^H is +-1, or
e^(i phi))::

    C* = conj(det U det V^H)  U diag_i(prod_{j != i} s_j) V^H

Where a pivot is within rounding of 0 this form is taken. torch's own first order gives 0 for every
exactly singular matrix, which for one of rank n - 1 is not the derivative.

The factors that the forward made serve the backward, as they do in a solve.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.2.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded
from manual_bp.ops.add import add
from manual_bp.ops.logarithm import log
from manual_bp.ops.solve import invertible
from manual_bp.ops.where import where
from manual_bp.spec import Draw, Sample, Spec, sample


def _holds_transpose(A: Tensor) -> bool:
    """Whether the factors that torch makes of ``A`` are those of A^T, which saves it a copy."""
    return A.is_contiguous() and not A.is_complex()


def _eye_like(A: Tensor) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)


class DetFunction(Function):
    """``A``: (..., n, n). Returns the determinant, and A's factors and pivots."""

    @staticmethod
    def forward(A: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch._linalg_det(A))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        (A,) = inputs
        d, LU, pivots = output
        ctx.adjoint = not _holds_transpose(A)
        ctx.mark_non_differentiable(LU, pivots)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(A, d, LU, pivots)

    @staticmethod
    def backward(ctx: Any, grad_d: Tensor | None, *_: None) -> Tensor | None:
        if grad_d is None:
            return None
        A, d, LU, pivots = ctx.saved_tensors
        if A.shape[-1] == 0:
            return torch.zeros_like(A)
        g, eye = (grad_d * d.conj())[..., None, None], _eye_like(A)
        is_singular = _is_singular(LU)[..., None, None]
        if not is_recorded() and not is_singular.any():
            return torch.linalg.lu_solve(LU, pivots, g * eye, adjoint=ctx.adjoint)
        # Both forms, each of a matrix that suits it: what is not chosen must not be infinite.
        invertible = torch.where(is_singular, eye, A)
        distinct = eye * torch.arange(1, A.shape[-1] + 1, device=A.device)
        singular = torch.where(is_singular, A, distinct)
        cofactors = grad_d[..., None, None] * _cofactors(singular)
        return torch.where(is_singular, cofactors, torch.linalg.solve(invertible.mH, g * eye))


def _is_singular(LU: Tensor) -> Tensor:
    pivots = LU.diagonal(dim1=-2, dim2=-1).abs()
    eps = torch.finfo(LU.dtype).eps
    return (pivots <= 100 * eps * pivots.amax(-1, keepdim=True)).any(-1)


def _cofactors(A: Tensor) -> Tensor:
    U, s, Vh = torch.linalg.svd(A)
    n = A.shape[-1]
    one_left_out = s.unsqueeze(-2).expand(*s.shape, n)
    is_diagonal = torch.eye(n, dtype=torch.bool, device=A.device)
    others = torch.where(is_diagonal, torch.ones_like(one_left_out), one_left_out).prod(-1)
    turn = (torch.linalg.det(U) * torch.linalg.det(Vh)).conj()
    return turn[..., None, None] * (U * others.unsqueeze(-2)) @ Vh


class SlogdetFunction(Function):
    """``A``: (..., n, n). Returns sign, logarithm, and A's factors and pivots."""

    @staticmethod
    def forward(A: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch._linalg_slogdet(A))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        (A,) = inputs
        s, _, LU, pivots = output
        ctx.adjoint = not _holds_transpose(A)
        ctx.mark_non_differentiable(LU, pivots)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(A, s, LU, pivots)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor | None, grad_l: Tensor | None, *_: None) -> Tensor | None:
        A, s, LU, pivots = ctx.saved_tensors
        if grad_l is None:
            if grad_s is None:
                return None
            grad_l = torch.zeros_like(s.real)
        c = grad_l.to(A.dtype)
        if grad_s is not None and A.is_complex():
            c = c + 1j * (s.conj() * grad_s).imag
        c = c[..., None, None] * _eye_like(A)
        if is_recorded():
            return torch.linalg.solve(A.mH, c)
        return torch.linalg.lu_solve(LU, pivots, c, adjoint=ctx.adjoint)


def det(input: Tensor) -> Tensor:
    """The determinant; as ``torch.det`` and ``torch.linalg.det``.

    Args:
        input: (..., n, n); float32, float64 or complex

    Returns:
        (...)

    Raises:
        RuntimeError: From torch, where a matrix is not square.
    """
    return DetFunction.apply(input)[0]


def slogdet(input: Tensor) -> Any:
    """Sign and logarithm of the determinant; as ``torch.slogdet`` and ``torch.linalg.slogdet``.

    Args:
        input: (..., n, n); float32, float64 or complex

    Returns:
        The sign, (...), of modulus 1 or 0; and the logarithm of the modulus, (...), real.

    Raises:
        RuntimeError: From torch, where a matrix is not square.
    """
    s, logarithm, _, _ = SlogdetFunction.apply(input)
    return torch.return_types.linalg_slogdet((s, logarithm))  # type: ignore[attr-defined]


def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant, NaN where it is negative; as ``torch.logdet``."""
    if input.dim() < 2 or input.shape[-1] != input.shape[-2]:
        return torch.logdet(input)  # which says so
    s, logarithm = slogdet(input)
    if s.is_complex():
        return add(logarithm, log(s))
    return where(s == -1, torch.nan, logarithm)


def _det(A: Tensor) -> Tensor:
    return det(A)


def _slogdet(A: Tensor) -> Any:
    return slogdet(A)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    yield sample(invertible(draw, 3, 3).detach().mT.requires_grad_(), label="transposed")
    yield sample(draw.values(3.0).detach().view(1, 1).requires_grad_(), label="a number")
    yield sample(draw.complex(3, 3), label="complex")
    yield sample(draw(2, 0, 0), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), label="not square")
    yield sample(draw(3), label="one axis")


def _log_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    swapped = invertible(draw, 3, 3).detach().flip(0).requires_grad_()
    yield sample(swapped, label="negative", smooth=False)  # logdet is NaN around it
    yield sample(draw.complex(3, 3), label="complex")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 64, 64))
    yield sample(invertible(draw, 256, 256))


DET = Spec(
    name="det",
    formula="d = det A",
    gradient="dA = dd conj(d) A^-H",
    manual=det,
    native=torch.det,
    overrides=(torch.Tensor.det,),
    inplace={torch.linalg.det: _det},
    samples=_samples,
    refused=_refused,
    bench=_bench,
    skip=("zeros", "sizes"),  # which make it singular, where torch's first order is 0
)
SLOGDET = Spec(
    name="slogdet",
    formula="s = d / |d|,  l = log |d|",
    gradient="dA = (dl + i Im(conj(s) ds)) A^-H",
    manual=slogdet,
    native=torch.slogdet,
    overrides=(torch.Tensor.slogdet,),
    inplace={torch.linalg.slogdet: _slogdet},
    samples=_log_samples,
    refused=_refused,
    bench=_bench,
)
LOGDET = Spec(
    name="logdet",
    formula="l = log det A",
    gradient="dA = dl A^-H",
    manual=logdet,
    native=torch.logdet,
    overrides=(torch.Tensor.logdet,),
    samples=_log_samples,
    refused=_refused,
)
