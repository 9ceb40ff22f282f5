r"""All distances: from each vector of one set to each of another, or between all of one set.

Indices: ``a`` and ``b`` vectors, ``d`` feature.

Forward::

    cdist   y_ab = (sum_d |x1_ad - x2_bd|^p)^(1/p)         (A, B), and any axes before
    pdist   y_ab of one set, a < b, one after the other    (A (A - 1) / 2)

Backward, with v_abd = x1_ad - x2_bd and the slopes of ``pairwise_distance``::

    s_abd = dL/dy_ab sign(v_abd) |v_abd|^(p-1) / y_ab^(p-1)    (A, B, D)
    dL/dx1_ad = sum_b s_abd,   dL/dx2_bd = -sum_a s_abd

At distance 0 the gradient is 0, and for p = inf every feature that is as large as the largest
gets all of it, as torch has it here. For p = 2 the sums need no array of A B D numbers: with
r_ab = dL/dy_ab / y_ab ::

    dL/dx1_ad = sum_b r_ab (x1_ad - x2_bd) = x1_ad sum_b r_ab - sum_b r_ab x2_bd

is a sum of rows and a matrix product. It loses digits where the vectors are far from the origin
and near each other; torch uses it where one of the sets is larger than 25, and so does this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.reduction import fitted
from manual_bp.spec import Draw, Sample, Spec, sample

#: How many of the A B D numbers are in memory at the same time.
NUMBERS = 2**18


def pulls(
    x1: Tensor, x2: Tensor, y: Tensor, g: Tensor, p: float, both: bool
) -> tuple[Tensor, Tensor]:
    """The sum over b of s and, if wanted, that over a, negated, in blocks of the rows of x1."""
    first, second = [], torch.zeros_like(x2)
    size = max(1, NUMBERS // max(1, x2.numel()))
    for rows, distance, share in zip(*(t.split(size, -2) for t in (x1, y, g)), strict=True):
        v = rows.unsqueeze(-2) - x2.unsqueeze(-3)  # (..., rows, B, D)
        if p == 2:  # v / y: divide the few y, and let a matrix product multiply and sum
            none = distance == 0
            r = torch.where(none, 0.0, share / torch.where(none, 1.0, distance))
            first.append((r.unsqueeze(-2) @ v).squeeze(-2))
            if both:
                second = second - (r.mT.unsqueeze(-2) @ v.transpose(-3, -2)).squeeze(-2)
        else:
            s = share.unsqueeze(-1) * slope(v, distance.unsqueeze(-1), p)
            first.append(s.sum(-2))
            second = second - s.sum(-3) if both else second
    return torch.cat(first, -2), second


def slope(v: Tensor, y: Tensor, p: float) -> Tensor:
    """dy/dv, 0 where it has none; twice where, so that nothing is divided by 0."""
    if p == 0:
        return torch.zeros_like(v)
    if p == 1:
        return v.sign()
    if p == math.inf:
        return v.sign() * (v.abs() == y)
    none = (v == 0) | (y == 0)
    scale, size = torch.where(y == 0, 1.0, y), torch.where(none, 1.0, v.abs())
    return torch.where(none, 0.0, v.sign() * (size / scale) ** (p - 1))


class CdistFunction(Function):
    """``x1``: (..., A, D), ``x2``: (..., B, D), the leading axes broadcast."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, p: float, mode: str) -> Tensor:
        return torch.cdist(x1, x2, p, mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, ctx.p, mode = inputs
        large = max(x1.shape[-2], x2.shape[-2]) > 25
        ctx.by_product = mode == "use_mm_for_euclid_dist" or (large and mode.endswith("necessary"))
        ctx.save_for_backward(x1, x2, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, y = ctx.saved_tensors
        a, b, g = widened(x1, x2, grad_y)
        lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = a.expand(*lead, *a.shape[-2:]), b.expand(*lead, *b.shape[-2:])
        grad_x1 = grad_x2 = None
        if ctx.p == 2 and ctx.by_product:
            r = torch.where(y == 0, 0.0, g / torch.where(y == 0, 1.0, y))
            if ctx.needs_input_grad[0]:
                grad_x1 = fitted(a * r.sum(-1, keepdim=True) - r @ b, x1)
            if ctx.needs_input_grad[1]:
                grad_x2 = fitted(b * r.sum(-2).unsqueeze(-1) - r.mT @ a, x2)
        else:
            pull1, pull2 = pulls(a, b, y, g, ctx.p, ctx.needs_input_grad[1])
            grad_x1 = fitted(pull1, x1) if ctx.needs_input_grad[0] else None
            grad_x2 = fitted(pull2, x2) if ctx.needs_input_grad[1] else None
        return grad_x1, grad_x2, None, None


class PdistFunction(Function):
    """``x``: (A, D)."""

    @staticmethod
    def forward(x: Tensor, p: float) -> Tensor:
        if torch._C._are_functorch_transforms_active():  # torch's own does not go through vmap
            i, j = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device).unbind()
            return torch.linalg.vector_norm(x[i] - x[j], p, -1)
        return torch.pdist(x, p)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.p = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        u, g = widened(x, grad_y)
        size = x.shape[0]
        pairs = torch.triu_indices(size, size, 1, device=x.device).unbind()

        def square(t: Tensor) -> Tensor:
            upper = t.new_zeros(size, size).index_put(pairs, t)
            return upper + upper.mT

        # Each pair is met from both of its ends, so that one of the two sums is all.
        return pulls(u, u, square(y), square(g), ctx.p, both=False)[0].to(x.dtype), None


@under_autocast("float32")
def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """Distances between two sets, gradients by hand; as ``torch.cdist``.

    Args:
        x1: (..., A, D)
        x2: (..., B, D), the leading axes broadcast
        p: of the norm
        compute_mode: whether the 2-norm goes by a matrix product, as in torch

    Returns:
        (..., A, B)

    Raises:
        RuntimeError: From torch, for shapes that do not fit.
    """
    return CdistFunction.apply(x1, x2, p, compute_mode)


@under_autocast("float32", devices=("cuda",))
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances within a set, gradient by hand; as ``torch.nn.functional.pdist``.

    Args:
        input: (A, D), float32 or float64
        p: of the norm

    Returns:
        (A (A - 1) / 2)

    Raises:
        RuntimeError: From torch, for another rank.
    """
    return PdistFunction.apply(input, p)


def _cdist_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(5, 3))
    for p in (1.0, 0.5, 3.0, math.inf, 0.0):
        yield sample(draw(4, 3), draw(5, 3), p, label=f"p {p}")
    yield sample(draw(2, 1, 4, 3), draw(3, 5, 3), 1.5, label="broadcast")
    by_product: dict[str, Any] = {"compute_mode": "use_mm_for_euclid_dist"}
    yield sample(draw(2, 4, 3), draw(5, 3), **by_product, label="by a product")
    x = draw(4, 3)
    yield sample(x, x.detach().clone().requires_grad_(), label="distance 0", smooth=False)


def _pdist_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3))
    for p in (1.0, 0.5, 3.0, math.inf, 0.0):
        yield sample(draw(5, 3), p, label=f"p {p}")


def _cdist_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(5, 2), label="features differ")
    yield sample(draw(4, 3), draw(5, 3), -1.0, label="p")


def _pdist_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), label="three axes")


def _cdist_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 64), draw(64, 64))
    yield sample(draw(1024, 128), draw(1024, 128))


def _pdist_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 64))
    yield sample(draw(256, 64))


CDIST = Spec(
    name="cdist",
    formula="y_ab = |x1_a - x2_b|_p",
    gradient="dx1_a = sum_b dy_ab (x1_a - x2_b) / y_ab  for p = 2,  dx2_b = -sum_a of the same",
    manual=cdist,
    native=torch.cdist,
    samples=_cdist_samples,
    refused=_cdist_refused,
    bench=_cdist_bench,
)

PDIST = Spec(
    name="pdist",
    formula="y_ab = |x_a - x_b|_p,  a < b",
    gradient="dx_a = sum_b dy_ab (x_a - x_b) / y_ab  for p = 2",
    manual=pdist,
    native=torch.nn.functional.pdist,
    samples=_pdist_samples,
    refused=_pdist_refused,
    bench=_pdist_bench,
    skip=("empty",),  # on which torch 2.13's own backward reads outside of its memory
)
