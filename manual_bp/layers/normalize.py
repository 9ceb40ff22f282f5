r"""Normalize: scales each vector to length 1.

Indices: ``n`` vector, ``d`` feature.

Forward::

    r_n  = (sum_d |x_nd|^p)^(1/p),  m_n = max(r_n, eps)
    y_nd = x_nd / m_n

Backward, with g = dL/dy::

    dL/dx_nd = (g_nd - dr_n/dx_nd sum_j g_nj y_nj) / m_n        where r_n >= eps
    dL/dx_nd = g_nd / eps                                       else

For p = 2, dr/dx is y itself: what is left of g is its part across y. A step along y would change
the length alone, which the output cannot see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.layers.pairwise_distance import norm_and_slope
from manual_bp.spec import Draw, Sample, Spec, sample


class NormalizeFunction(Function):
    """``x``: any shape."""

    @staticmethod
    def forward(x: Tensor, p: float, axis: int, eps: float) -> Tensor:
        return torch.nn.functional.normalize(x, p, axis, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.p, ctx.axis, ctx.eps = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        u, g = widened(x, grad_y)
        r, slope = norm_and_slope(u, ctx.p, ctx.axis)
        m = r.clamp(min=ctx.eps)
        along = (g * u.conj() / m).sum(ctx.axis, keepdim=True)
        along = along.real if along.is_complex() else along
        along = torch.where(r >= ctx.eps, along, 0.0)
        return ((g - slope * along) / m).to(x.dtype), None, None, None


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """Scale to length 1, gradient by hand; as ``torch.nn.functional.normalize``.

    Args:
        input: any shape
        p: of the norm
        dim: the axis along which a vector lies
        eps: the smallest norm to divide by
        out: as in torch, and as there without a gradient

    Returns:
        The shape of ``input``.

    Raises:
        IndexError: From torch, for an axis that there is not.
    """
    if out is not None:
        return torch.nn.functional.normalize(input, p, dim, eps, out)
    return NormalizeFunction.apply(input, p, dim, eps)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 1.0, 0, label="p 1, first axis")
    yield sample(draw(2, 4, 3), 3.0, -2, label="p 3, three axes")
    yield sample(draw(4, 3), math.inf, label="p inf")
    yield sample(draw(4, 3), 2.0, 1, 1.5, label="eps")
    tie = draw.values(1.0, -2.0, 0.0, 2.0)
    yield sample(tie, math.inf, 0, label="ties", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), label="no such axis")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="normalize",
    formula="y = x / max(|x|, eps)",
    gradient="dx = (dy - y (dy . y)) / |x|",
    manual=normalize,
    native=torch.nn.functional.normalize,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
