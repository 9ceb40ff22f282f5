r"""Cosine embedding: turns alike vectors to each other, different ones apart up to a margin.

Indices: ``n`` pair, ``d`` feature, ``t_n`` 1 for alike and -1 for different, ``m`` the margin.
dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, s1_n = sum_d x1_nd^2 + 1e-12 and s2 likewise::

    c_n = sum_d x1_nd x2_nd / sqrt(s1_n s2_n)             (N)
    l_n = 1 - c_n  where t_n = 1,   max(0, c_n - m)  where t_n = -1

Backward::

    dL/dc_n   = -dL/dl_n  where t_n = 1,   dL/dl_n  where t_n = -1 and c_n >= m,   else 0
    dL/dx1_nd = dL/dc_n (x2_nd / sqrt(s1_n s2_n) - c_n x1_nd / s1_n)                (N, D)
    dL/dx2_nd = dL/dc_n (x1_nd / sqrt(s1_n s2_n) - c_n x2_nd / s2_n)                (N, D)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.layers.soft_margin_loss import signs
from manual_bp.reduction import fitted, named, share
from manual_bp.spec import Draw, Sample, Spec, sample

#: 1e-12, as torch's kernel holds it: rounded to float32 in every dtype.
SMALLEST = torch.tensor(1e-12, dtype=torch.float32).item()


class CosineEmbeddingLossFunction(Function):
    """``x1`` and ``x2``: (N, D) or (D,); ``target``: (N,) or ()."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, target: Tensor, margin: float, reduction: str) -> Tensor:
        return torch.nn.functional.cosine_embedding_loss(
            x1, x2, target, margin, reduction=reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, target, ctx.margin, ctx.reduction = inputs
        ctx.save_for_backward(x1, x2, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, target = ctx.saved_tensors
        a, b = widened(x1, x2)
        s1, s2 = (v.square().sum(-1, keepdim=True) + SMALLEST for v in (a, b))
        length = (s1 * s2).sqrt()
        c = (a * b).sum(-1, keepdim=True) / length
        t = target.unsqueeze(-1)
        count = torch.broadcast_shapes(c.shape, t.shape).numel()
        g = share(grad_y, ctx.reduction, count)
        g = g.unsqueeze(-1) if ctx.reduction == "none" else g
        nothing = g.new_zeros(())
        grad_c = torch.where((t == -1) & (c - ctx.margin >= 0), g, nothing)
        grad_c = torch.where(t == 1, -g, grad_c)
        # The length of a vector is that of its own features, before it is broadcast.
        wide_a, wide_b = torch.broadcast_tensors(a, b)
        grad_x1 = grad_x2 = None
        if ctx.needs_input_grad[0]:
            grad_x1 = fitted(grad_c / length * wide_b, x1) - fitted(grad_c * c / s1 * a, x1)
        if ctx.needs_input_grad[1]:
            grad_x2 = fitted(grad_c / length * wide_a, x2) - fitted(grad_c * c / s2 * b, x2)
        return grad_x1, grad_x2, None, None, None


@under_autocast("float32")
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cosine loss, gradients by hand; as ``torch.nn.functional.cosine_embedding_loss``.

    Args:
        input1: (N, D) or (D,)
        input2: likewise
        target: 1 for alike, -1 for different, (N,) or (); gets no gradient
        margin: the cosine up to which a different pair costs nothing
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the shape of ``target`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not fit.
    """
    reduction = named(reduction, size_average, reduce)
    return CosineEmbeddingLossFunction.apply(input1, input2, target.detach(), margin, reduction)


class CosineEmbeddingLoss(torch.nn.CosineEmbeddingLoss):
    """``torch.nn.CosineEmbeddingLoss``, gradients :class:`CosineEmbeddingLossFunction`'s."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Map two (N, D) and signs (N) to the loss."""
        return cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(5, 3), signs(draw, 5))
    yield sample(draw(5, 3), draw(5, 3), signs(draw, 5), 0.5, reduction="none", label="none")
    yield sample(draw(5, 3), draw(5, 3), draw.integers(3, 5) - 1, -0.5, reduction="sum")
    yield sample(draw(3), draw(3), signs(draw), label="vectors")
    yield sample(draw(0, 3), draw(0, 3), draw.fixed(0), reduction="sum", label="no pairs")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 2), draw.fixed(4), label="features differ")
    yield sample(draw(4, 3), draw(4, 3), draw.fixed(4, 3), label="rank of the target")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3), signs(draw, 4)), 0.1)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512), signs(draw, 64))
    yield sample(draw(1024, 2048), draw(1024, 2048), signs(draw, 1024))


SPEC = Spec(
    name="cosine_embedding_loss",
    formula="L = mean of 1 - c where t = 1, max(0, c - m) where t = -1,  c = cos(x1, x2)",
    gradient="dx1 = dc (x2 / (|x1| |x2|) - c x1 / |x1|^2),  dx2 likewise",
    manual=cosine_embedding_loss,
    native=torch.nn.functional.cosine_embedding_loss,
    samples=_samples,
    refused=_refused,
    modules={CosineEmbeddingLoss: _modules},
    bench=_bench,
)
