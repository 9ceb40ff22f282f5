r"""Multi-label hinge: every true class should lead every other by 1.

Indices: ``n`` example, ``c`` and ``j`` classes of ``C``. The target lists the true classes of an
example, t_n1, t_n2, ..., up to the first -1. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, k over the list, c over the classes that are not on it::

    z_nkc = 1 - x_{n, t_nk} + x_nc                          (N, C, C)
    l_n   = 1/C sum_k sum_c max(0, z_nkc)                   (N)

Backward: each pair of a true and another class that come too close is pushed apart::

    a_nkc = dL/dl_n / C  where z_nkc > 0,  else 0           (N, C, C)
    dL/dx_nc = sum_k a_nkc - sum_{k: t_nk = c} sum_j a_nkj  (N, C)

The slope of a pair is 0 or 1, so the gradient is a matter of counting: how many true classes does
this one come too close to, and how many others come too close to this true one? Sorted scores tell
both in C log C steps, without the C x C array of pairs.

Tsochantaridis et al. (2005), "Large Margin Methods for Structured and Interdependent Output
Variables", treat the general case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.reduction import named, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample


def lists(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, t_nk (0 after the end), which k are on the list and which c are not: (..., C)."""
    x, target = torch.atleast_1d(x), torch.atleast_1d(target)
    listed = (target >= 0).cumprod(-1).bool()
    t = torch.where(listed, target, 0)
    other = torch.zeros_like(target).scatter_add(-1, t, listed.to(target.dtype)) == 0
    return x, t, listed, other


def pairs(x: Tensor, t: Tensor, listed: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """z_nkc and which of its pairs count: (..., C, C)."""
    z = 1 - x.gather(-1, t).unsqueeze(-1) + x.unsqueeze(-2)
    return z, listed.unsqueeze(-1) & other.unsqueeze(-2)


def close(x: Tensor, t: Tensor, listed: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """How many z are above 0: for each c, and for each k; without the C x C array.

    z > 0 where x_c > x_t - 1, so that among sorted numbers the place tells the count.
    """
    bound = torch.where(listed, x.gather(-1, t) - 1, torch.inf)
    rival = torch.where(other, x, -torch.inf)
    of_class = torch.searchsorted(bound.sort(-1).values, rival)
    of_label = x.shape[-1] - torch.searchsorted(rival.sort(-1).values, bound, right=True)
    return of_class, of_label


class MultiLabelMarginLossFunction(Function):
    """``x`` and ``target``: (C,) or (N, C)."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str) -> Tensor:
        if not torch._C._are_functorch_transforms_active():
            return torch.nn.functional.multilabel_margin_loss(x, target, reduction=reduction)
        # Torch's own kernel does not go through vmap.
        z, counts = pairs(*lists(x, target))
        losses = torch.where(counts, z.clamp(min=0), 0.0).sum((-2, -1)) / z.shape[-1]
        return reduced(losses, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        (u,) = widened(x)
        found = lists(u, target)
        t, classes = found[1], max(u.shape[-1] if u.dim() > 0 else 1, 1)
        g = share(grad_y, ctx.reduction, t.numel() // classes, 1 / classes)
        g = g.unsqueeze(-1) if ctx.reduction == "none" else g
        if is_recorded():
            z, counts = pairs(*found)
            active = counts & (z > 0)
            of_class, of_label = active.sum(-2), active.sum(-1)
        else:
            of_class, of_label = close(*found)
        grad_x = (g * of_class).scatter_add(-1, t, -g * of_label)
        return grad_x.view_as(x).to(x.dtype), None, None


@under_autocast("float32")
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Multi-label hinge, gradient by hand; as ``torch.nn.functional.multilabel_margin_loss``.

    Args:
        input: scores (C,) or (N, C)
        target: int64, the same shape: the true classes, then -1
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or (N,) with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not fit and classes out of range.
    """
    reduction = named(reduction, size_average, reduce)
    return MultiLabelMarginLossFunction.apply(input, target, reduction)


class MultiLabelMarginLoss(torch.nn.MultiLabelMarginLoss):
    """``torch.nn.MultiLabelMarginLoss``, gradient :class:`MultiLabelMarginLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map scores (N, C) and lists of classes (N, C) to the loss."""
        return multilabel_margin_loss(input, target, reduction=self.reduction)


def _samples(draw: Draw) -> Iterator[Sample]:
    lists = [[2, 0, -1, 1], [-1, 0, 1, 2], [3, 1, 0, 2], [1, -1, -1, 1], [0, 0, 2, -1]]
    label = torch.tensor(lists, device=draw.device)
    yield sample(draw(5, 4), label)
    yield sample(draw(5, 4), label, reduction="none", label="none")
    yield sample(draw(4), label[0], reduction="sum", label="unbatched, sum")
    kinks = torch.tensor([[1.0, 0.0, 0.5, 1.0]]).to(draw.device, draw.dtype)
    yield sample(kinks.requires_grad_(), label[:1], label="kinks", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw.integers(3, 4, 3), label="lengths differ")
    yield sample(draw(5, 3), draw.integers(1, 5, 3) + 3, label="out of range")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(5, 3), draw.integers(4, 5, 3) - 1))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 16), draw.integers(17, 64, 16) - 1)
    yield sample(draw(256, 64), draw.integers(65, 256, 64) - 1)


SPEC = Spec(
    name="multilabel_margin_loss",
    formula="L = mean_n 1/C sum_k sum_c max(0, 1 - x_{n, t_k} + x_nc)",
    gradient="dx_nc = dL / (N C) (count of k with z_kc > 0),  dx_{n, t_k} = -(count of c likewise)",
    manual=multilabel_margin_loss,
    native=torch.nn.functional.multilabel_margin_loss,
    samples=_samples,
    refused=_refused,
    modules={MultiLabelMarginLoss: _modules},
    bench=_bench,
)
