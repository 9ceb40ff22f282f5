r"""Mean absolute error: regression whose best constant is the median of the target.

Indices: ``n`` element. ``x`` and ``target`` broadcast to a common shape.

Forward and backward, with dL/dl_n the share of ``manual_bp/reduction.py``::

    l_n = |x_n - target_n|
    dL/dx_n      = dL/dl_n sign(x_n - target_n)
    dL/dtarget_n = -dL/dx_n

Every error is answered with the same force, so that an outlier counts no more than its neighbour,
and a tiny error no less: near the minimum the gradient does not fade. At the kink, where the two
are equal, any slope between -1 and 1 is a subgradient; like PyTorch, this takes 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.reduction import named, of_difference, share, times, weighted
from manual_bp.spec import Draw, Sample, Spec, sample


class L1LossFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str) -> Tensor:
        return torch.nn.functional.l1_loss(x, target, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, target = widened(*given)
        d = x - target
        slope = d.sgn() if is_recorded() else d.sgn_()
        grad_d = times(slope, share(grad_y, ctx.reduction, d.numel()))
        return *of_difference(ctx, grad_d, *given), None


@under_autocast("float32")
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Absolute error with its gradients by hand; as ``torch.nn.functional.l1_loss``.

    Args:
        input: any shape
        target: the same shape, or one that broadcasts (torch warns)
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" (with weights: over their sum) or "sum"
        weight: the shape of ``input``

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        ValueError: For a weight of another shape and an unknown reduction.
    """
    reduction = named(reduction, size_average, reduce)
    if weight is None:
        return L1LossFunction.apply(input, target, reduction)
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    return weighted(L1LossFunction.apply(input, target, "none"), weight, reduction)


class L1Loss(torch.nn.L1Loss):
    """``torch.nn.L1Loss`` whose gradients are :class:`L1LossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map two tensors of one shape to the loss."""
        return l1_loss(input, target, reduction=self.reduction)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(4, 3), draw.fixed(4, 3), reduction="none", label="none")
    # None with a weight: under any TorchFunctionMode, by_hand() included, torch's own l1_loss
    # drops it on the way (mse_loss, which treats it the same way, does not).
    kink = draw.values(-1.0, 0.0, 2.0, float("inf"), float("nan"))
    yield sample(kink, draw.values(-1.0, -0.0, 1.0, 1.0, 1.0), label="kink", smooth=False)
    yield sample(draw(0, 3), draw(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), reduction="average", label="reduction")
    yield sample(draw(4, 3), draw(4, 3), weight=draw(3), label="weight differs")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw(4, 3)))
    yield sample((draw(4, 3), draw(4, 3)), reduction="none")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.fixed(64, 512))
    yield sample(draw(1024, 2048), draw.fixed(1024, 2048))


SPEC = Spec(
    name="l1_loss",
    formula="L = mean |x - target|",
    gradient="dx = dL sign(x - target) / N,  dtarget = -dx",
    manual=l1_loss,
    native=torch.nn.functional.l1_loss,
    samples=_samples,
    refused=_refused,
    modules={L1Loss: _modules},
    bench=_bench,
)
