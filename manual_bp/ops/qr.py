r"""QR: the columns of a matrix made orthonormal, one after the other.

Forward, for ``A`` (m, n)::

    A = Q R           Q^H Q = I, R upper triangular, its diagonal real
    reduced           Q (m, k) and R (k, n), with k = min(m, n)
    complete          Q (m, m) and R (m, n)

Backward, for m >= n = k. With dA = dQ R + Q dR, and W = Q^H dQ antisymmetric since Q^H Q does not
change::

    Q^H dA R^-1 = W + dR R^-1 = (antisymmetric) + (upper)

so below the diagonal the left side is W's, and W has no other numbers. What of dA R^-1 lies
outside of Q's columns is dQ's alone. Read backwards, with N = Q^H dL/dQ and G = R dL/dR^H::

    dL/dA = Q dL/dR + ((1 - Q Q^H) dL/dQ + Q tril(K)) R^-H           (m, n)
            K = N - N^H + G - G^H, of whose diagonal half counts

R's own gradient goes to A as if Q were fixed; what the turning of Q gives comes below the
diagonal.

Where A = [A1 A2] is wider, Q is made of A1 alone. What is over is R2 = Q^H A2, of which
dR2 = Q^H dA2 - W R2, so that::

    dL/dA2 = Q dL/dR2,     and to dL/dQ comes -dL/dA2 R2^H

With that, dL/dA1 is the gradient of the square QR of A1.

Where mode="complete" adds columns to Q, nothing determines them but to be orthogonal, and with
mode="r" there is no Q: like torch's, the backward refuses both. A1 must be of full rank.

Walter & Lehmann (2013), "Algorithmic differentiation of linear algebra functions with application
in optimum experimental design"; Roberts & Roberts (2020), "QR and LQ decomposition
matrix backpropagation algorithms for square, wide, and deep matrices".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.solve import invertible
from manual_bp.spec import Draw, Sample, Spec, sample


class QRFunction(Function):
    """``A``: (..., m, n); ``mode``: "reduced", "complete" or "r"."""

    @staticmethod
    def forward(A: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        Q, R = torch.linalg.qr(A, mode)
        return Q, R

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        A, ctx.mode = inputs
        ctx.is_tall = A.shape[-2] > A.shape[-1]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(
        ctx: Any, grad_Q: Tensor | None, grad_R: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if grad_Q is None and grad_R is None:
            return None, None
        if ctx.mode == "r":
            raise RuntimeError(
                "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. "
                "Please use linalg.qr(A, mode='reduced') if you are going to differentiate "
                "through linalg.qr."
            )
        if ctx.mode == "complete" and ctx.is_tall:
            raise RuntimeError(
                "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."
            )
        Q, R = ctx.saved_tensors
        grad_Q = torch.zeros_like(Q) if grad_Q is None else grad_Q
        grad_R = torch.zeros_like(R) if grad_R is None else grad_R
        k = Q.shape[-1]
        R1, R2, gR1, gR2 = R[..., :k], R[..., k:], grad_R[..., :k], grad_R[..., k:]
        grad_A2 = Q @ gR2
        grad_Q = grad_Q - grad_A2 @ R2.mH
        N, G = Q.mH @ grad_Q, R1 @ gR1.mH
        K = N - N.mH + G - G.mH
        turned = Q @ (0.5 * (K.tril() + K.tril(-1)))
        if ctx.is_tall:
            turned = turned + grad_Q - Q @ N
        # What comes by R goes round R^-H, which would blow up its rounding.
        grad_A1 = Q @ gR1 + torch.linalg.solve_triangular(R1.mH, turned, upper=False, left=False)
        return torch.cat([grad_A1, grad_A2], -1), None


@under_autocast("float32", devices=("cpu",))
def qr(A: Tensor, mode: str = "reduced") -> Any:
    """Orthonormal columns and a triangle; as ``torch.linalg.qr``.

    Args:
        A: (..., m, n), its first k = min(m, n) columns independent; float32, float64 or complex
        mode: "reduced"; "complete" for a square Q; "r" for R alone

    Returns:
        Q (..., m, k), or (..., m, m), or empty; and R (..., k, n), or (..., m, n).

    Raises:
        RuntimeError: From torch, for another mode or where there are no two axes; and in the
            backward pass with mode="r", and with mode="complete" where m > n.
    """
    Q, R = QRFunction.apply(A, mode)
    return torch.return_types.linalg_qr((Q, R))  # type: ignore[attr-defined]


def old_qr(input: Tensor, some: bool = True) -> Any:
    """The same, ``some`` for mode="reduced"; as ``torch.qr``."""
    return torch.return_types.qr(qr(input, "reduced" if some else "complete"))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(invertible(draw, 2, 3, 3))
    yield sample(draw(5, 3), label="tall")
    yield sample(draw(2, 3, 5), label="wide")
    yield sample(draw(3, 5), "complete", label="complete")
    yield sample(draw.complex(4, 3), label="complex")
    yield sample(draw(0, 3), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), "some", label="no such mode")
    yield sample(draw(3), label="one axis")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 32))
    yield sample(draw(384, 192))


SPEC = Spec(
    name="qr",
    formula="A = Q R",
    gradient="dA = (dQ + Q sym(tril(R dR^H - dQ^H Q))) R^-H",
    manual=qr,
    native=torch.linalg.qr,
    inplace={torch.qr: old_qr, torch.Tensor.qr: old_qr},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
