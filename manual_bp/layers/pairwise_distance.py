r"""Pairwise distance: how far each vector is from its partner.

Indices: ``n`` pair, ``d`` feature. ``x1`` and ``x2`` broadcast to a common shape.

Forward, ``eps`` added to each difference, so that the distance is never 0 by accident::

    v_nd = x1_nd - x2_nd + eps                        (N, D)
    y_n  = (sum_d |v_nd|^p)^(1/p)                     (N)

Backward::

    dL/dx1_nd = dL/dy_n dy_n/dv_nd                    (N, D)
    dL/dx2_nd = -dL/dx1_nd

    dy/dv_d = sign(v_d) |v_d|^(p-1) / y^(p-1)         v_d / y  for p = 2,  sign(v_d)  for p = 1
    dy/dv_d = sign(v_d) / (number of ties)            where |v_d| is largest,  for p = inf

For p = 2 the gradient is the direction, of length 1 however far apart the two are. At distance 0,
where it has none, and at v_d = 0 for p < 1, torch takes 0.
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


def norm_and_slope(v: Tensor, p: float, axis: int) -> tuple[Tensor, Tensor]:
    """The p-norm y along an axis, which is kept with length 1, and dy/dv; differentiable."""
    y = torch.linalg.vector_norm(v, p, axis, keepdim=True)
    if p == 0:
        return y, torch.zeros_like(v)
    if p == 1:
        return y, v.sgn()
    if p == math.inf:
        largest = v.abs() == y
        return y, v.sgn() * largest / largest.sum(axis, keepdim=True)
    # Twice where, so that neither the value nor its derivative divides by 0.
    nothing = y == 0
    scale = torch.where(nothing, 1.0, y)
    if p == 2:
        return y, torch.where(nothing, 0.0, v / scale)
    zero = v == 0
    size = torch.where(zero, 1.0, v.abs())
    return y, torch.where(zero, 0.0, v.sgn() * (size / scale) ** (p - 1))


class PairwiseDistanceFunction(Function):
    """``x1`` and ``x2``: (..., D), shapes that broadcast."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, p: float, eps: float, keepdim: bool) -> Tensor:
        return torch.pairwise_distance(x1, x2, p, eps, keepdim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, ctx.p, ctx.eps, ctx.keepdim = inputs
        ctx.save_for_backward(x1, x2)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2 = ctx.saved_tensors
        a, b, g = widened(x1, x2, grad_y)
        _, slope = norm_and_slope(a - b + ctx.eps, ctx.p, -1)
        grad_v = (g if ctx.keepdim else g.unsqueeze(-1)) * slope
        grad_x1 = fitted(grad_v, x1) if ctx.needs_input_grad[0] else None
        grad_x2 = -fitted(grad_v, x2) if ctx.needs_input_grad[1] else None
        return grad_x1, grad_x2, None, None, None


@under_autocast("float32", devices=("cuda",))
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """Distance of partners, gradients by hand; as ``torch.nn.functional.pairwise_distance``.

    Args:
        x1: (..., D)
        x2: (..., D), a shape that broadcasts
        p: of the norm
        eps: added to each difference
        keepdim: keep the last axis, with length 1

    Returns:
        The broadcast shape without D.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
    """
    return PairwiseDistanceFunction.apply(x1, x2, p, eps, keepdim)


class PairwiseDistance(torch.nn.PairwiseDistance):
    """``torch.nn.PairwiseDistance``, gradients :class:`PairwiseDistanceFunction`'s."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Map two (N, D) to (N,)."""
        return pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw(3), 1.0, 0.0, True, label="p 1, broadcast, keepdim")
    yield sample(draw(2, 4, 3), draw(2, 4, 3), 3.0, label="p 3, three axes")
    yield sample(draw(4, 3), draw(4, 3), 0.5, label="p 1/2")
    yield sample(draw(4, 3), draw(4, 3), math.inf, label="p inf")
    yield sample(draw(3), draw(3), 1.5, label="p 3/2, a vector")
    tie = draw.values(1.0, 2.0, 0.0, 1.0)
    other = draw.values(1.0, 0.0, 2.0, 1.0)
    yield sample(tie, other, math.inf, 0.0, label="ties", smooth=False)
    yield sample(tie, tie.detach().clone(), 2.0, 0.0, label="distance 0", smooth=False)
    yield sample(draw(0, 3), draw(0, 3), label="no pairs")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 2), label="features differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3)))
    yield sample((draw(4, 3), draw(4, 3)), 3.0, 1e-3, True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512))
    yield sample(draw(1024, 2048), draw(1024, 2048))


SPEC = Spec(
    name="pairwise_distance",
    formula="y_n = |x1_n - x2_n + eps|_p",
    gradient="dx1_n = dy_n (x1_n - x2_n + eps) / y_n  for p = 2,  dx2 = -dx1",
    manual=pairwise_distance,
    native=torch.nn.functional.pairwise_distance,
    samples=_samples,
    refused=_refused,
    modules={PairwiseDistance: _modules},
    bench=_bench,
)
