r"""Multi-class hinge: the score of the true class should lead each other by a margin.

Indices: ``n`` example, ``c`` class of ``C``, ``t = t_n`` the true class, ``w`` weighs the classes
(1 without), ``m`` the margin, ``p`` 1 or 2. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward::

    z_nc = m - x_nt + x_nc                                 (N, C)
    l_n  = 1/C sum_{c != t} w_t max(0, z_nc)^p             (N)

Backward: every class that comes too close is pushed down, and the true one pulled up by as much::

    s_nc     = dL/dl_n w_t / C p z_nc^(p-1)  where z_nc > 0 and c != t,  else 0
    dL/dx_nc = s_nc  where c != t            dL/dx_nt = -sum_c s_nc       (N, C)

Crammer & Singer (2001), "On the Algorithmic Implementation of Multiclass Kernel-based Vector
Machines", take the largest z alone; the sum is Weston & Watkins' (1999).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.reduction import constants, named, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample


def leads(x: Tensor, target: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """z, by how much each class falls short of the margin, (..., C), and t, (..., 1)."""
    x = torch.atleast_1d(x)
    t = target.view(x.shape[:-1]).unsqueeze(-1)
    return margin - x.gather(-1, t) + x, t


class MultiMarginLossFunction(Function):
    """``x``: (C,) or (N, C), ``target``: () or (N,), ``weight``: (C,) or None."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, p: int, margin: float, weight: Tensor | None, reduction: str
    ) -> Tensor:
        if not torch._C._are_functorch_transforms_active():
            return torch.nn.functional.multi_margin_loss(
                x, target, p, margin, weight, reduction=reduction
            )
        z, t = leads(x, target, margin)  # torch's own kernel does not go through vmap
        losses = z.clamp(min=0) ** p if weight is None else z.clamp(min=0) ** p * weight[t]
        losses = losses.scatter(-1, t, 0.0).sum(-1) / z.shape[-1]
        return reduced(losses.view_as(target), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.p, ctx.margin, weight, ctx.reduction = inputs
        ctx.save_for_backward(x, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight = ctx.saved_tensors
        u, w = widened(x, weight)
        z, t = leads(u, target, ctx.margin)
        g = share(grad_y, ctx.reduction, t.numel(), ctx.p / z.shape[-1])
        if ctx.reduction == "none":
            g = g.view_as(t)
        if weight is not None:
            g = g * w[t]
        pushed = torch.where(z > 0, g if ctx.p == 1 else g * z, g.new_zeros(()))
        pushed = pushed.scatter(-1, t, 0.0)
        grad_x = pushed.scatter(-1, t, -pushed.sum(-1, keepdim=True))
        return grad_x.view_as(x).to(x.dtype), None, None, None, None, None


@under_autocast("float32")
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Multi-class hinge, gradient by hand; as ``torch.nn.functional.multi_margin_loss``.

    Args:
        input: scores (C,) or (N, C)
        target: int64 classes in [0, C), () or (N,)
        p: 1 or 2
        margin: by how much the true class should lead
        weight: (C,) of the classes, a constant
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the shape of ``target`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not fit, classes out of range, and a weight
            that requires a gradient.
        ValueError: From torch, for another ``p``.
    """
    reduction = named(reduction, size_average, reduce)
    constants("multi_margin_loss", weight=weight)
    return MultiMarginLossFunction.apply(input, target, p, margin, weight, reduction)


class MultiMarginLoss(torch.nn.MultiMarginLoss):
    """``torch.nn.MultiMarginLoss`` whose gradient is :class:`MultiMarginLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map scores (N, C) and classes (N) to the loss."""
        return multi_margin_loss(
            input,
            target,
            p=self.p,
            margin=self.margin,
            weight=self.weight,
            reduction=self.reduction,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    label, weight = draw.integers(3, 5), draw.uniform(3, low=0.5)
    yield sample(draw(5, 3), label)
    yield sample(draw(5, 3), label, 2, 0.5, weight, label="squared, weight")
    yield sample(draw(5, 3), label, 2, reduction="none", label="squared, none")
    yield sample(draw(5, 3), label, 1, 0.7, weight, reduction="sum", label="weight, sum")
    yield sample(draw(3), draw.integers(3), reduction="none", label="unbatched")
    kinks = torch.tensor([[1.0, 0.0, 0.5], [1.0, 2.0, 3.0]]).to(draw.device, draw.dtype)
    label = torch.tensor([0, 1], device=draw.device)
    yield sample(kinks.requires_grad_(), label, label="kinks", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw.integers(3, 4), label="lengths differ")
    yield sample(draw(5, 3), draw.integers(3, 5), 3, label="p")
    yield sample(draw(5, 3), draw.integers(1, 5) + 3, label="out of range")
    yield sample(draw(5, 3), draw.integers(3, 5), weight=draw(3), label="weight requires grad")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(5, 3), draw.integers(3, 5)))
    yield sample((draw(5, 3), draw.integers(3, 5)), 2, 0.5, draw.uniform(3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.integers(512, 64))
    yield sample(draw(1024, 2048), draw.integers(2048, 1024))


SPEC = Spec(
    name="multi_margin_loss",
    formula="L = mean_n 1/C sum_{c != t} max(0, m - x_nt + x_nc)^p",
    gradient="dx_nc = dL p z_nc^(p-1) / (N C) where z_nc > 0, else 0;  dx_nt = -sum of these",
    manual=multi_margin_loss,
    native=torch.nn.functional.multi_margin_loss,
    samples=_samples,
    refused=_refused,
    modules={MultiMarginLoss: _modules},
    bench=_bench,
)
