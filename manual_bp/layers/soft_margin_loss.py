r"""Soft margin: the logistic loss of a yes or no that is written 1 or -1.

Indices: ``n`` element. dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward and backward::

    l_n = log(1 + exp(-t_n x_n))
    dL/dx_n = -dL/dl_n t_n sigmoid(-t_n x_n)

It is binary cross-entropy from a logit, with -1 for no: sigmoid(-t x) is the probability that was
given to the wrong answer. Torch has no gradient for the target. Where exp(-t x) overflows, torch's
loss is infinite and its gradient NaN; here they are -t x and -t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.reduction import constants, fitted, named, reduced, share, times
from manual_bp.spec import Draw, Sample, Spec, sample


class SoftMarginLossFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str) -> Tensor:
        return reduced(-torch.nn.functional.logsigmoid(x * target), reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        u, t = widened(x, target)
        wrong = -t * u  # sigmoid of it: the probability of the wrong answer
        slope = torch.sigmoid(wrong) * -t if is_recorded() else wrong.sigmoid_().mul_(t).neg_()
        grad_x = fitted(times(slope, share(grad_y, ctx.reduction, slope.numel())), x)
        return grad_x, None, None


@under_autocast("float32")
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Logistic loss with its gradient by hand; as ``torch.nn.functional.soft_margin_loss``.

    Args:
        input: any shape
        target: 1 or -1, a shape that broadcasts, a constant
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the broadcast shape with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast, and a target that requires a
            gradient.
    """
    reduction = named(reduction, size_average, reduce)
    constants("soft_margin_loss", target=target)
    return SoftMarginLossFunction.apply(input, target, reduction)


class SoftMarginLoss(torch.nn.SoftMarginLoss):
    """``torch.nn.SoftMarginLoss`` whose gradient is :class:`SoftMarginLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map scores and signs of one shape to the loss."""
        return soft_margin_loss(input, target, reduction=self.reduction)


def signs(draw: Draw, *shape: int) -> Tensor:
    """1 and -1 by chance."""
    return draw.integers(2, *shape).to(draw.dtype) * 2 - 1


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), signs(draw, 4, 3))
    yield sample(draw(4, 3), signs(draw, 4, 3), reduction="none", label="none")
    yield sample(draw(4, 3), draw.fixed(4, 3), reduction="sum", label="any target, sum")
    yield sample(draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(4, 2), label="shapes differ")
    yield sample(draw(4, 3), draw(4, 3), label="target requires grad")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), signs(draw, 4, 3)))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), signs(draw, 64, 512))
    yield sample(draw(1024, 2048), signs(draw, 1024, 2048))


SPEC = Spec(
    name="soft_margin_loss",
    formula="L = mean log(1 + exp(-t x))",
    gradient="dx = -dL t sigmoid(-t x) / N",
    manual=soft_margin_loss,
    native=torch.nn.functional.soft_margin_loss,
    samples=_samples,
    refused=_refused,
    modules={SoftMarginLoss: _modules},
    bench=_bench,
)
