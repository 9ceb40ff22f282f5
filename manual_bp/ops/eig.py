r"""Eigenvalues of any square matrix.

Forward, for ``A`` (n, n) with n independent eigenvectors; all is complex, whatever A is::

    A V = V diag(l)                      each column of V of length 1

Backward. With P = V^-1 dA V and C = V^-1 dV::

    P = diag(dl) + C diag(l) - diag(l) C

so dl_i = P_ii, and beside the diagonal C_ij = P_ij / (l_j - l_i). The diagonal of C is what keeps
the columns at length 1: it takes from each column of the change its part along the column itself,
and so does its transpose from the gradient::

    T = V^H dL/dV - V^H V diag(Re(V^H dL/dV)_ii)                     (n, n)
    dL/dA = V^-H (diag(dL/dl) + F* o T) V^H,    F_ij = 1 / (l_j - l_i), F_ii = 0

The real part, where A is real. It is the formula of a Hermitian matrix but for the length, and for
V^-H in the place of V.

The choice. An eigenvector may be turned by e^(i phi), and a loss must not depend on phi, which is
Im(V^H dL/dV)_ii = 0. As torch does, the backward raises where it is not.

Boeddeker et al. (2017), "On the computation of complex-valued gradients with application to
statistically optimum beamforming".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.eigh import depends_on_no_phase
from manual_bp.ops.svd import one_over_gaps
from manual_bp.spec import Draw, Sample, Spec, sample


class EigFunction(Function):
    """``A``: (..., n, n). Returns eigenvalues and eigenvectors."""

    @staticmethod
    def forward(A: Tensor) -> tuple[Tensor, Tensor]:
        values, V = torch.linalg.eig(A)
        return values, V

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.of_real = not inputs[0].is_complex()
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor | None, grad_V: Tensor | None) -> Tensor | None:
        if grad_values is None and grad_V is None:
            return None
        values, V = ctx.saved_tensors
        middle = torch.zeros_like(V) if grad_values is None else grad_values.diag_embed()
        if grad_V is not None:
            turn = V.mH @ grad_V
            depends_on_no_phase(turn, "linalg_eig_backward")
            along = turn.diagonal(dim1=-2, dim2=-1).real
            turn = turn - (V.mH @ V) * along.unsqueeze(-2)
            middle = middle + one_over_gaps(values).conj() * turn
        grad_A = torch.linalg.solve(V.mH, middle @ V.mH)
        return grad_A.real if ctx.of_real else grad_A


@under_autocast("float32", devices=("cpu",))
def eig(input: Tensor) -> Any:
    """Eigenvalues and eigenvectors; as ``torch.linalg.eig``.

    Args:
        input: (..., n, n); float32, float64 or complex

    Returns:
        The eigenvalues (..., n), in no order, and the eigenvectors (..., n, n) as columns; both
        complex.

    Raises:
        RuntimeError: From torch, where a matrix is not square; and in the backward pass for a loss
            that depends on the vectors' phase.
    """
    return torch.return_types.linalg_eig(EigFunction.apply(input))  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def eigvals(input: Tensor) -> Tensor:
    """The eigenvalues; as ``torch.linalg.eigvals``."""
    return EigFunction.apply(input)[0]


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 3))
    yield sample(draw.complex(3, 3), label="complex")
    yield sample(draw(0, 0), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), label="not square")


EIGVALS = Spec(
    name="eigvals",
    formula="l of A V = V diag(l)",
    gradient="dA = V^-H diag(dl) V^H",
    manual=eigvals,
    native=torch.linalg.eigvals,
    # Its vectors have a phase that no loss may depend on: tests/test_linear_algebra.py.
    inplace={torch.linalg.eig: eig},
    samples=_samples,
    refused=_refused,
)
