r"""Cosine similarity: how much two vectors point the same way, from -1 to 1.

Indices: ``n`` pair, ``d`` feature. ``x1`` and ``x2`` broadcast to a common shape.

Forward, with norms r1_n, r2_n and m = max(r, eps)::

    c_n = sum_d x1_nd x2_nd / (m1_n m2_n)                               (N)

Backward::

    dL/dx1_nd = dL/dc_n (x2_nd / m2_n - c_n x1_nd / r1_n) / m1_n        (N, D)
    dL/dx2_nd = dL/dc_n (x1_nd / m1_n - c_n x2_nd / r2_n) / m2_n        (N, D)

With both of length 1 that is x2 - c x1: the part of x2 that stands across x1. A step along x1
changes its length alone, which the cosine cannot see. The bound ``eps`` is not differentiated (a
vector below it still gets the second term), and x / r is 0 at x = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.layers.pairwise_distance import norm_and_slope
from manual_bp.reduction import fitted
from manual_bp.spec import Draw, Sample, Spec, sample


class CosineSimilarityFunction(Function):
    """``x1`` and ``x2``: shapes that broadcast."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, axis: int, eps: float) -> Tensor:
        return torch.cosine_similarity(x1, x2, axis, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, ctx.axis, ctx.eps = inputs
        ctx.save_for_backward(x1, x2)

    @staticmethod
    def backward(ctx: Any, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2 = ctx.saved_tensors
        a, b, g = widened(x1, x2, grad_c)
        a, b = torch.broadcast_tensors(a, b)
        g = g.unsqueeze(ctx.axis)
        (unit1, m1), (unit2, m2) = (_direction(v, ctx.axis, ctx.eps) for v in (a, b))
        b, a = b / m2, a / m1
        c = (a * b).sum(ctx.axis, keepdim=True)
        grad_x1 = grad_x2 = None
        if ctx.needs_input_grad[0]:
            grad_x1 = fitted(g * (b - c * unit1) / m1, x1)
        if ctx.needs_input_grad[1]:
            grad_x2 = fitted(g * (a - c * unit2) / m2, x2)
        return grad_x1, grad_x2, None, None


def _direction(v: Tensor, axis: int, eps: float) -> tuple[Tensor, Tensor]:
    """Give v / r and m: the bound is added as a constant, so that it is not differentiated."""
    r, unit = norm_and_slope(v, 2, axis)
    return unit, r + (r.clamp(min=eps) - r).detach()


@under_autocast("float32", devices=("cuda",))
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle, gradients by hand; as ``torch.nn.functional.cosine_similarity``.

    Args:
        x1: any shape
        x2: a shape that broadcasts
        dim: the axis of the features, of the broadcast shape
        eps: the smallest norm to divide by

    Returns:
        The broadcast shape without ``dim``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        IndexError: From torch, for an axis that there is not.
    """
    return CosineSimilarityFunction.apply(x1, x2, dim, eps)


class CosineSimilarity(torch.nn.CosineSimilarity):
    """``torch.nn.CosineSimilarity``, gradients :class:`CosineSimilarityFunction`'s."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Map two tensors to the cosines along an axis."""
        return cosine_similarity(x1, x2, self.dim, self.eps)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 4, 3), draw(4, 1), 1, label="broadcast")
    yield sample(draw(4, 3), draw(4, 3), -2, 1.5, label="first axis, eps", smooth=False)
    yield sample(draw(3), draw(3), 0, label="vectors")
    yield sample(draw(0, 3), draw(0, 3), label="no pairs")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 2), label="features differ")
    yield sample(draw(3), draw(3), label="no such axis")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3)))
    yield sample((draw(4, 3), draw(4, 3)), 0, 1e-3)
    yield sample((draw.values(0.0, 0.0), draw(2)), 0, label="length 0")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512))
    yield sample(draw(1024, 2048), draw(1024, 2048))


SPEC = Spec(
    name="cosine_similarity",
    formula="c = x1 . x2 / (|x1| |x2|)",
    gradient="dx1 = dc (x2 / |x2| - c x1 / |x1|) / |x1|,  dx2 likewise",
    manual=cosine_similarity,
    native=torch.nn.functional.cosine_similarity,
    samples=_samples,
    refused=_refused,
    modules={CosineSimilarity: _modules},
    bench=_bench,
)
