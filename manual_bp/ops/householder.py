r"""Products of reflections: what LAPACK keeps of a Q, and the product of Q with a matrix.

Forward. Column i of ``A`` (m, k) holds below its diagonal a vector v_i, which has a 1 there and 0
above, and ``tau`` (k) a number for each::

    H_i = I - tau_i v_i v_i^H            Q = H_1 H_2 ... H_k          (m, m)
    householder_product                  Y = the first n columns of Q  (n of A, n <= m)
    ormqr                                Y = Q C,  Q^H C,  C Q  or  C Q^H

Backward. The product is taken one reflection at a time, Y_k = C first::

    Y_(i-1) = H_i Y_i,  Y = Y_0          G_i = H_i^H G_(i-1),  G_0 = dL/dY,  dL/dC = G_k

and at each step, where dH = -(dtau v v^H + tau dv v^H + tau v dv^H)::

    dL/dtau_i = -v^H G w                                  w = Y_i^H v_i,  G = G_(i-1)
    dL/dv_i   = -(tau* G w + tau Y_i (G^H v))             (m)

of which A takes what is below its diagonal. The Y_i are made again, and not kept by the forward.
Q^H is the product in reverse order with tau*, and C Q = (Q^H C^H)^H.

LAPACK Users' Guide (1999), "Representation of orthogonal or unitary matrices".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


def _reflect(v: Tensor, tau: Tensor, Y: Tensor) -> Tensor:
    """``H Y`` for a column ``v``: (..., m, 1) and a number ``tau``: (..., 1, 1)."""
    return Y - (tau * v) @ (v.mH @ Y)


def _through(
    A: Tensor, tau: Tensor, C: Tensor, grad_Y: Tensor, adjoint: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of A, tau and C from that of Q C, or of Q^H C."""
    k = tau.shape[-1]
    V = A[..., :k].tril(-1) + torch.eye(*A.shape[-2:], dtype=A.dtype, device=A.device)[:, :k]
    numbers = tau.conj() if adjoint else tau
    each = [(V[..., i : i + 1], numbers[..., i, None, None]) for i in range(k)]
    order = list(range(k - 1, -1, -1))  # the reflection that C meets first stands last in Q
    if adjoint:
        order.reverse()
    passed = [C]
    for i in order[:-1]:
        passed.append(_reflect(*each[i], passed[-1]))
    G = grad_Y
    grads: dict[int, tuple[Tensor, Tensor]] = {}
    for i, Y in zip(reversed(order), reversed(passed), strict=False):
        v, t = each[i]
        w, u = Y.mH @ v, G.mH @ v
        grads[i] = (-(t.conj() * (G @ w) + t * (Y @ u)), -(u.mH @ w))
        G = _reflect(v, t.conj(), G)
    if not k:
        return torch.zeros_like(A), torch.zeros_like(tau), G
    grad_V = torch.cat([grads[i][0] for i in range(k)], -1).tril(-1)
    grad_tau = torch.cat([grads[i][1] for i in range(k)], -1).squeeze(-2)
    rest = A.shape[-1] - k
    grad_A = torch.nn.functional.pad(grad_V, (0, rest)) if rest else grad_V
    return grad_A, grad_tau.conj() if adjoint else grad_tau, G


class HouseholderProductFunction(Function):
    """``A``: (..., m, n), ``tau``: (..., k) with k <= n <= m."""

    @staticmethod
    def forward(A: Tensor, tau: Tensor) -> Tensor:
        return torch.linalg.householder_product(A, tau)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor) -> tuple[Tensor | None, ...]:
        A, tau = ctx.saved_tensors
        if tau.shape[-1] == 0:  # Y is I, whatever A holds
            return None, None
        eye = torch.eye(*A.shape[-2:], dtype=A.dtype, device=A.device)
        grad_A, grad_tau, _ = _through(A, tau, eye, grad_Y, adjoint=False)
        return grad_A, grad_tau


class OrmqrFunction(Function):
    """``A``: (..., m, k), ``tau``: (..., k), ``C``: (..., m, n), or (..., n, m) on the left."""

    generate_vmap_rule = False  # torch has no rule for ormqr, and does not need one for a batch

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, left, adjoint = inputs
        batches = [
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
            for t, d in zip(tensors, in_dims, strict=False)
        ]
        return OrmqrFunction.apply(*batches, left, adjoint), 0

    @staticmethod
    def forward(A: Tensor, tau: Tensor, C: Tensor, left: bool, adjoint: bool) -> Tensor:
        return torch.ormqr(A, tau, C, left, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        A, tau, C, ctx.left, ctx.adjoint = inputs
        ctx.save_for_backward(A, tau, C)

    @staticmethod
    def backward(ctx: Any, grad_Y: Tensor) -> tuple[Tensor | None, ...]:
        A, tau, C = ctx.saved_tensors
        if ctx.left:
            return *_through(A, tau, C, grad_Y, ctx.adjoint), None, None
        grad_A, grad_tau, grad_C = _through(A, tau, C.mH, grad_Y.mH, not ctx.adjoint)
        return grad_A, grad_tau, grad_C.mH, None, None


@under_autocast("float32", devices=("cpu",))
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of a product of reflections; as ``torch.linalg.householder_product``.

    Args:
        input: A, (..., m, n), the vectors below its diagonal; float32, float64 or complex
        tau: (..., k), k <= n <= m

    Returns:
        (..., m, n)

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return HouseholderProductFunction.apply(input, tau)


@under_autocast("float32", devices=("cpu",))
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """The same by its name in LAPACK; as ``torch.orgqr``."""
    return HouseholderProductFunction.apply(input, input2)


@under_autocast("float32", devices=("cpu",))
def ormqr(
    input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """The product of Q with a matrix; as ``torch.ormqr``.

    Args:
        input: A, (..., m, k), the vectors below its diagonal
        input2: tau, (..., k)
        input3: C, (..., m, n), or (..., n, m) where ``left`` is False
        left: False for C Q
        transpose: Q^H in the place of Q

    Returns:
        The shape of C.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return OrmqrFunction.apply(input, input2, input3, left, transpose)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), draw(2, 3))
    yield sample(draw(4, 3), draw(2), label="fewer reflections")
    yield sample(draw.complex(3, 2), draw.complex(2), label="complex")
    yield sample(draw(3, 2), draw(0), label="none")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), draw(2), label="wide")


def _ormqr_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), draw(2, 3), draw(2, 4, 2))
    yield sample(draw(4, 3), draw(3), draw(2, 4), False, True, label="right, adjoint")
    A, tau, C = draw.complex(4, 2), draw.complex(2), draw.complex(4, 2)
    yield sample(A, tau, C, True, True, label="adjoint, complex")


def _ormqr_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3), draw(3, 2), label="sizes differ")


HOUSEHOLDER_PRODUCT = Spec(
    name="householder_product",
    formula="Y = H_1 ... H_k,  H_i = I - tau_i v_i v_i^H",
    gradient="dv_i = -(tau* G w + tau Y_i G^H v),  dtau_i = -v^H G w,  w = Y_i^H v",
    manual=householder_product,
    native=torch.linalg.householder_product,
    inplace={torch.orgqr: orgqr, torch.Tensor.orgqr: orgqr},
    samples=_samples,
    refused=_refused,
)
ORMQR = Spec(
    name="ormqr",
    formula="Y = H_1 ... H_k C",
    gradient="dC = Q^H dY,  dA and dtau as of householder_product",
    manual=ormqr,
    native=torch.ormqr,
    overrides=(torch.Tensor.ormqr,),
    samples=_ormqr_samples,
    refused=_ormqr_refused,
)
