r"""SVD: a matrix as a turn, a stretching along axes, and another turn.

Forward, for ``A`` (m, n), with k = min(m, n)::

    A = U S V^H          U (m, k) and V (n, k) with orthonormal columns, S = diag(s), s_1 >= s_2 ...

Backward. With P = U^H dA V (k, k), and W = U^H dU, Z = V^H dV, which are antisymmetric::

    P = W S + dS - S Z

Its diagonal is ds (real; W and Z have none there). What is beside it is solved for W and Z by
P S + S P^H = W S^2 - S^2 W and S P + P^H S = Z S^2 - S^2 Z. With F_ij = 1 / (s_j^2 - s_i^2),
F_ii = 0, and o the product element by element::

    W = F o (P S + S P^H),     Z = F o (S P + P^H S)

Read backwards, with skew(X) = X - X^H, the gradient of P is, and from it A's::

    G = (F o skew(U^H dL/dU)) S + S (F o skew(V^H dL/dV)) + diag(dL/ds)               (k, k)
    dL/dA = U G V^H  +  (I - U U^H) dL/dU S^-1 V^H  +  U S^-1 dL/dV^H (I - V V^H)     (m, n)

The last two are what of dU lies outside of U's columns, where A is tall, and of dV, where it is
wide. The gradient of the singular values alone, U diag(dL/ds) V^H, has no F: it stands where two
are equal, while of the vectors only the space that they span is then determined.

The choice. A column of U and its partner of V may be turned by the same e^(i phi); for real
numbers, change sign together. Real signs do not jump, but a complex loss must not depend on phi,
which is Im(U^H dL/dU + V^H dL/dV)_ii = 0: as torch does, the backward raises where it is not. What
of P_ii turns the two against each other, Im P_ii, adds G_ii += i Im(U^H dL/dU)_ii / s_i.

With full_matrices=True the columns beyond k, which nothing determines, get no gradient to pass on.

Townsend (2016), "Differentiating the singular value decomposition"; Wan & Zhang (2019), "Automatic
differentiation for complex valued SVD".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.conj import conj
from manual_bp.ops.permute import mT
from manual_bp.spec import Draw, Sample, Spec, sample


def may_look() -> bool:
    """Whether a backward may ask for numbers, as it may not in transforms or while compiled."""
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def one_over_gaps(x: Tensor) -> Tensor:
    """``F_ij = 1 / (x_j - x_i)``, 0 on the diagonal: (..., k, k) from (..., k)."""
    gaps = x.unsqueeze(-2) - x.unsqueeze(-1)
    eye = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
    return gaps.masked_fill(eye, torch.inf).reciprocal()


class SVDFunction(Function):
    """``A``: (..., m, n). Returns U, s and V^H."""

    @staticmethod
    def forward(A: Tensor, full_matrices: bool, driver: str | None) -> tuple[Tensor, ...]:
        return tuple(torch.linalg.svd(A, full_matrices, driver=driver))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(
        ctx: Any, grad_U: Tensor | None, grad_s: Tensor | None, grad_Vh: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        U, s, Vh = ctx.saved_tensors
        k = s.shape[-1]
        m, n = U.shape[-2], Vh.shape[-1]
        U, Vh = U[..., :k], Vh[..., :k, :]
        if grad_U is None and grad_Vh is None:
            if grad_s is None:
                return None, None, None
            # The smaller of the two is stretched.
            stretched = (
                (U * grad_s.unsqueeze(-2)) @ Vh if m < n else U @ (grad_s.unsqueeze(-1) * Vh)
            )
            return stretched, None, None
        columns, rows = s.unsqueeze(-2), s.unsqueeze(-1)  # X * columns is X S, rows * X is S X
        F = one_over_gaps(s.square())
        G = torch.zeros_like(F) if grad_s is None else grad_s.diag_embed()
        turn_U = turn_V = None
        if grad_U is not None:
            turn_U = U.mH @ grad_U[..., :k]
            turn_U = turn_U - turn_U.mH
            G = G + (F * turn_U) * columns
        if grad_Vh is not None:
            turn_V = Vh @ grad_Vh[..., :k, :].mH
            turn_V = turn_V - turn_V.mH
            G = G + rows * (F * turn_V)
        if U.is_complex():
            _depends_on_no_phase(turn_U, turn_V)
            if turn_U is not None:
                G = G + (turn_U.diagonal(dim1=-2, dim2=-1) / (2 * s)).diag_embed()
        grad_A = U @ G @ Vh
        if grad_U is not None and m > k:
            outside = grad_U[..., :k] / columns
            grad_A = grad_A + (outside - U @ (U.mH @ outside)) @ Vh
        if grad_Vh is not None and n > k:
            outside = grad_Vh[..., :k, :] / rows
            grad_A = grad_A + U @ (outside - (outside @ Vh.mH) @ Vh)
        return grad_A, None, None


def _depends_on_no_phase(turn_U: Tensor | None, turn_V: Tensor | None) -> None:
    if not may_look():
        return
    turns = [t.diagonal(dim1=-2, dim2=-1).imag for t in (turn_U, turn_V) if t is not None]
    other = -turns[1] if len(turns) > 1 else torch.zeros_like(turns[0])
    if not torch.allclose(turns[0], other, rtol=1e-2, atol=1e-2):
        raise RuntimeError(
            "svd_backward: The singular vectors in the complex case are specified up to "
            "multiplication by e^{i phi}. The specified loss function depends on this phase term, "
            "making it ill-defined."
        )


@under_autocast("float32", devices=("cpu",))
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """Left vectors, singular values, right vectors; as ``torch.linalg.svd``.

    Args:
        A: (..., m, n); float32, float64 or complex
        full_matrices: U (..., m, m) and V^H (..., n, n), instead of k columns and rows
        driver: how, on a GPU

    Returns:
        U (..., m, k), s (..., k) real and descending, V^H (..., k, n), with k = min(m, n).

    Raises:
        RuntimeError: From torch, where there are no two axes; and in the backward pass for a
            complex loss that depends on the vectors' phase.
    """
    return torch.return_types.linalg_svd(SVDFunction.apply(A, full_matrices, driver))  # type: ignore[attr-defined]


@under_autocast("float32", devices=("cpu",))
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values; as ``torch.linalg.svdvals``."""
    return SVDFunction.apply(A, False, driver)[1]


def old_svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """U, s and V, not V^H; as ``torch.svd``.

    Args:
        input: (..., m, n)
        some: k columns of U and V
        compute_uv: False for zeros in their place
    """
    if not compute_uv:
        *batch, m, n = input.shape
        none = input.new_zeros(*batch, m, m), input.new_zeros(*batch, n, n)
        return torch.return_types.svd((none[0], svdvals(input), none[1]))
    U, s, Vh = svd(input, full_matrices=not some)
    return torch.return_types.svd((U, s, conj(mT(Vh))))


def distinct(draw: Draw, *shape: int) -> Tensor:
    """A batch of matrices with singular values well apart, (..., m, n)."""
    U, s, Vh = torch.linalg.svd(draw.fixed(*shape), full_matrices=False)
    apart = s * 0 + torch.arange(s.shape[-1], 0, -1, dtype=s.dtype, device=s.device)
    return ((U * apart.unsqueeze(-2)) @ Vh).requires_grad_()


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 3), False)
    yield sample(distinct(draw, 5, 3), full_matrices=False, label="tall")
    yield sample(distinct(draw, 2, 3, 5), full_matrices=False, label="wide")
    # A numerical derivative would see the columns that nothing determines.
    yield sample(distinct(draw, 4, 3), label="full", smooth=False)
    yield sample(draw(0, 3), False, label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), label="one axis")


def _values_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 2, 3, 4))
    yield sample(distinct(draw, 4, 3), label="tall")
    yield sample(draw.complex(2, 3), label="complex")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(distinct(draw, 64, 32), False)
    yield sample(distinct(draw, 256, 128), False)


SVD = Spec(
    name="svd",
    formula="A = U S V^H",
    gradient="dA = U ((F o skew(U^H dU)) S + S (F o skew(V^H dV)) + diag(ds)) V^H + ...",
    manual=svd,
    native=torch.linalg.svd,
    inplace={torch.svd: old_svd, torch.Tensor.svd: old_svd},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
SVDVALS = Spec(
    name="svdvals",
    formula="s of A = U S V^H",
    gradient="dA = U diag(ds) V^H",
    manual=svdvals,
    native=torch.linalg.svdvals,
    samples=_values_samples,
    refused=_refused,
)
