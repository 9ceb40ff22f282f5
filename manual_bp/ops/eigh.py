r"""Eigenvalues of a symmetric matrix: the axes along which it only stretches.

Forward, for a Hermitian ``A`` (n, n), of which one triangle is read::

    A = V diag(l) V^H                    V^H V = I, l real and ascending

Backward. With P = V^H dA V, and W = V^H dV, which is antisymmetric since V^H V does not change::

    P = diag(dl) + W diag(l) - diag(l) W

On the diagonal stand the changes of the eigenvalues, beside it P_ij = W_ij (l_j - l_i). With
F_ij = 1 / (l_j - l_i), F_ii = 0, and o the product element by element, read backwards::

    dL/dA = V (diag(dL/dl) + F o T) V^H,   T = 1/2 (X - X^H),  X = V^H dL/dV          (n, n)

where of X only the antisymmetric part meets W. A is Hermitian, and so is its gradient.

An eigenvalue's gradient is v v^H alone (Hellmann and Feynman). An eigenvector turns towards
another the more, the closer their eigenvalues are; where two are equal, only the plane that they
span is determined, and the gradient of the vectors infinite.

The choice. An eigenvector may be turned by e^(i phi); for real numbers, change sign. Real signs do
not jump, but a complex loss must not depend on phi, which is Im(V^H dL/dV)_ii = 0: as torch does,
the backward raises where it is not.

Giles (2008), "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 3.1; Boeddeker et al. (2017), "On the computation of complex-valued
gradients with application to statistically optimum beamforming".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.svd import may_look, one_over_gaps
from manual_bp.spec import Draw, Sample, Spec, sample


class EighFunction(Function):
    """``A``: (..., n, n). Returns eigenvalues and eigenvectors."""

    @staticmethod
    def forward(A: Tensor, UPLO: str) -> tuple[Tensor, Tensor]:
        values, V = torch.linalg.eigh(A, UPLO)
        return values, V

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(
        ctx: Any, grad_values: Tensor | None, grad_V: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        values, V = ctx.saved_tensors
        if grad_V is None:
            if grad_values is None:
                return None, None
            return (V * grad_values.unsqueeze(-2)) @ V.mH, None
        turn = V.mH @ grad_V
        depends_on_no_phase(turn, "linalg_eigh_backward")
        middle = one_over_gaps(values) * (0.5 * (turn - turn.mH))
        if grad_values is not None:
            middle = middle + grad_values.diag_embed()
        return V @ middle @ V.mH, None


def depends_on_no_phase(turn: Tensor, name: str) -> None:
    """Raise what torch raises where ``V^H dL/dV`` shows a gradient along a vector's phase."""
    if not turn.is_complex() or not may_look():
        return
    along = turn.diagonal(dim1=-2, dim2=-1).imag
    if not torch.allclose(along, torch.zeros_like(along), rtol=1e-2, atol=1e-2):
        raise RuntimeError(
            f"{name}: The eigenvectors in the complex case are specified up to multiplication by "
            "e^{i phi}. The specified loss function depends on this quantity, so it is ill-defined."
        )


@under_autocast("float32", devices=("cpu",))
def eigh(input: Tensor, UPLO: str = "L") -> Any:
    """Eigenvalues and eigenvectors of a Hermitian matrix; as ``torch.linalg.eigh``.

    Args:
        input: (..., n, n); float32, float64 or complex
        UPLO: which triangle is read, "L" or "U"

    Returns:
        The eigenvalues (..., n), real and ascending, and the eigenvectors (..., n, n) as columns.

    Raises:
        RuntimeError: From torch, where a matrix is not square; and in the backward pass for a
            complex loss that depends on the vectors' phase.
    """
    return torch.return_types.linalg_eigh(EighFunction.apply(input, UPLO))  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def eigvalsh(input: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a Hermitian matrix; as ``torch.linalg.eigvalsh``."""
    return EighFunction.apply(input, UPLO)[0]


def _symmetric(draw: Draw, *shape: int) -> Tensor:
    """Symmetric, with eigenvalues well apart."""
    x = draw.fixed(*shape)
    apart = 3.0 * torch.arange(shape[-1], dtype=x.dtype, device=x.device)
    return (0.2 * (x + x.mT) + apart.diag()).requires_grad_()


# A numerical derivative moves one of two elements that are equal.
def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(_symmetric(draw, 2, 3, 3), smooth=False)
    yield sample(_symmetric(draw, 3, 3), "U", label="upper", smooth=False)
    yield sample(draw(0, 0), label="empty", smooth=False)


def _values_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(_symmetric(draw, 2, 3, 3), smooth=False)
    x = draw.complex(3, 3).detach()
    yield sample((x + x.mH).requires_grad_(), "U", label="upper, complex", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 4), label="not square")
    yield sample(_symmetric(draw, 3, 3), "X", label="no such triangle")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(_symmetric(draw, 64, 64))
    yield sample(_symmetric(draw, 256, 256))


EIGH = Spec(
    name="eigh",
    formula="A = V diag(l) V^H",
    gradient="dA = V (diag(dl) + F o skew(V^H dV) / 2) V^H,  F_ij = 1 / (l_j - l_i)",
    manual=eigh,
    native=torch.linalg.eigh,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
EIGVALSH = Spec(
    name="eigvalsh",
    formula="l of A = V diag(l) V^H",
    gradient="dA = V diag(dl) V^H",
    manual=eigvalsh,
    native=torch.linalg.eigvalsh,
    samples=_values_samples,
    refused=_refused,
)
