r"""Triplet margin: the anchor should be nearer to the positive than to the negative, by a margin.

Indices: ``n`` triplet. ``d`` is a distance, the p-norm unless one's own is given, ``m`` the
margin. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, with ``swap`` the smaller of the two distances to the negative::

    dp_n = d(a_n, p_n),  dn_n = d(a_n, n_n)  or  min(d(a_n, n_n), d(p_n, n_n))
    l_n  = max(0, m + dp_n - dn_n)                                  (N)

Backward::

    dL/ddp_n = dL/dl_n  where m + dp_n - dn_n >= 0,  else 0
    dL/ddn_n = -dL/ddp_n
    the smaller of two passes the gradient on, each half of it where they are equal

and on through the distances, which have gradients of their own (``pairwise_distance``).

Schroff, Kalenichenko & Philbin (2015), "FaceNet", section 3.1; the swap: Balntas et al. (2016),
"Learning Local Feature Descriptors with Triplets", section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.layers.pairwise_distance import pairwise_distance
from manual_bp.reduction import fitted, named, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample

Distance = Callable[[Tensor, Tensor], Tensor]


class RankedFunction(Function):
    """``near`` and ``far``, the distances: any shape, the same."""

    @staticmethod
    def forward(near: Tensor, far: Tensor, margin: float, reduction: str) -> Tensor:
        return reduced((margin + near - far).clamp(min=0), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        near, far, ctx.margin, ctx.reduction = inputs
        ctx.save_for_backward(near, far)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        near, far = ctx.saved_tensors
        z = ctx.margin + near - far
        g = share(grad_y, ctx.reduction, z.numel()).to(z.dtype)
        grad = torch.where(z >= 0, g, g.new_zeros(()))
        grad_near = fitted(grad, near) if ctx.needs_input_grad[0] else None
        grad_far = -fitted(grad, far) if ctx.needs_input_grad[1] else None
        return grad_near, grad_far, None, None


class SmallerFunction(Function):
    """``x1`` and ``x2``: shapes that broadcast."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor) -> Tensor:
        return torch.minimum(x1, x2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2 = ctx.saved_tensors
        nothing = grad_y.new_zeros(())
        grad = torch.where(x1 == x2, grad_y / 2, grad_y)
        grad_x1 = fitted(torch.where(x1 > x2, nothing, grad), x1)
        grad_x2 = fitted(torch.where(x1 < x2, nothing, grad), x2)
        return grad_x1, grad_x2


def _ranked(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Distance,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.dim() == positive.dim() == negative.dim():
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of "
            f"dimensions, but got: anchor {anchor.dim()}D, positive {positive.dim()}D, and "
            f"negative {negative.dim()}D inputs"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = SmallerFunction.apply(far, distance(positive, negative))
    return RankedFunction.apply(near, far, margin, reduction)


@under_autocast("float32")
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Ranking of distances, gradients by hand; as ``torch.nn.functional.triplet_margin_loss``.

    Args:
        anchor: (..., D)
        positive: (..., D), what should be near
        negative: (..., D), what should be far
        margin: by how much, above 0
        p: of the norm
        eps: added to each difference
        swap: measure the negative from the nearer one of the other two
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape without D with ``reduction="none"``.

    Raises:
        RuntimeError: For ranks that differ and, from torch, shapes that do not broadcast.
        ValueError: For a margin not above 0 and an unknown reduction.
    """
    reduction = named(reduction, size_average, reduce)

    def distance(x1: Tensor, x2: Tensor) -> Tensor:
        return pairwise_distance(x1, x2, p, eps)

    return _ranked(anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """As ``torch.nn.functional.triplet_margin_with_distance_loss``, gradients by hand.

    Args:
        anchor: any shape that ``distance_function`` takes
        positive: what should be near
        negative: what should be far
        distance_function: of two tensors, the 2-norm along the last axis if None; the torch calls
            in it are made by hand
        margin: by how much, above 0
        swap: measure the negative from the nearer one of the other two
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or what ``distance_function`` returns in shape with ``reduction="none"``.

    Raises:
        RuntimeError: For ranks that differ.
        ValueError: For a margin not above 0 and an unknown reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if distance_function is None:
        return _ranked(anchor, positive, negative, pairwise_distance, margin, swap, reduction)
    from manual_bp.by_hand import by_hand  # which itself imports every layer

    with by_hand():
        return _ranked(anchor, positive, negative, distance_function, margin, swap, reduction)


class TripletMarginLoss(torch.nn.TripletMarginLoss):
    """``torch.nn.TripletMarginLoss`` whose gradients are by hand."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Map three (N, D) to the loss."""
        return triplet_margin_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            p=self.p,
            eps=self.eps,
            swap=self.swap,
            reduction=self.reduction,
        )


class TripletMarginWithDistanceLoss(torch.nn.TripletMarginWithDistanceLoss):
    """``torch.nn.TripletMarginWithDistanceLoss`` whose gradients are by hand."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Map three tensors to the loss."""
        return triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(5, 3), draw(5, 3))
    yield sample(draw(5, 3), draw(5, 3), draw(5, 3), swap=True, reduction="none", label="swap")
    yield sample(draw(5, 3), draw(5, 3), draw(5, 3), 0.5, 1.0, reduction="sum", label="p 1, sum")
    yield sample(draw(3), draw(3), draw(3), label="vectors")
    tie = draw.values(0.0, 0.0)
    other, far = draw.values(0.0, 0.0), draw.values(3.0, 4.0)
    yield sample(tie, other, far, 9.0, eps=0.0, swap=True, label="tie", smooth=False)


def _distance_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(5, 3), draw(5, 3))

    def cosine(x1: Tensor, x2: Tensor) -> Tensor:
        return torch.nn.functional.pairwise_distance(x1, x2, 1.0)

    own: dict[str, Any] = {"distance_function": cosine, "swap": True}
    yield sample(draw(5, 3), draw(5, 3), draw(5, 3), **own, reduction="sum", label="one's own")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), draw(4, 3), margin=0.0, label="margin")
    yield sample(draw(4, 3), draw(4, 3), draw(3), label="ranks differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3), draw(4, 3)), swap=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(64, 512), draw(64, 512))
    yield sample(draw(1024, 1024), draw(1024, 1024), draw(1024, 1024))


TRIPLET = Spec(
    name="triplet_margin_loss",
    formula="L = mean max(0, m + |a - p| - |a - n|)",
    gradient="d|a - p| = dL / N where m + |a - p| - |a - n| >= 0, else 0;  d|a - n| = -d|a - p|",
    manual=triplet_margin_loss,
    native=torch.nn.functional.triplet_margin_loss,
    samples=_samples,
    refused=_refused,
    modules={TripletMarginLoss: _modules},
    bench=_bench,
)

WITH_DISTANCE = Spec(
    name="triplet_margin_with_distance_loss",
    formula="L = mean max(0, m + d(a, p) - d(a, n))",
    gradient="dd(a, p) = dL / N where m + d(a, p) - d(a, n) >= 0, else 0;  dd(a, n) = -dd(a, p)",
    manual=triplet_margin_with_distance_loss,
    native=torch.nn.functional.triplet_margin_with_distance_loss,
    samples=_distance_samples,
    refused=_refused,
    modules={TripletMarginWithDistanceLoss: _modules},
    bench=_bench,
)
