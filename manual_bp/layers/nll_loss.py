r"""Negative log-likelihood: what the true class was predicted with, as a log-probability.

Indices: ``n`` example (of a batch, of a pixel ...), ``c`` class, ``t_n`` the true class.

Forward, with a weight for each class (1 without) that counts 0 where ``t_n`` is to be ignored::

    a_n = weight[t_n],  0 where t_n = ignore_index       (N)
    l_n = -a_n x_{n, t_n}                                (N)
    L_n = l_n  ("none"),  L = sum_n l_n  ("sum"),  L = sum_n l_n / sum_n a_n  ("mean")

Backward: one class of each example is blamed, in the measure r_n in which the example counts::

    r_n = dL_n a_n  or  dL a_n  or  dL a_n / sum_m a_m   (N)
    dL/dx_nc = -r_n  where c = t_n,  else 0              (N, C)

Torch divides each ``a_n`` by a sum that may be 0: where every example is ignored the mean is NaN
and the gradient 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.reduction import constants, named
from manual_bp.spec import Draw, Sample, Spec, sample


def class_axis(x: Tensor) -> int:
    """The axis of the classes: (C,) or (N, C, d...)."""
    return 1 if x.dim() > 1 else 0


def counted(
    grad_y: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    classes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """How much an example counts, and which of its classes: each of the shape of ``target``.

    Returns:
        What is left of dL_n over the normaliser (0 where ignored), r_n, and t_n (where ignored,
        any class that exists).
    """
    kept = target != ignore_index
    label = target.clamp(0, classes - 1).long()
    (g,) = widened(grad_y)
    zero = g.new_zeros(())
    a = kept
    if weight is not None:
        (w,) = widened(weight)
        a = torch.where(kept, w.gather(0, label.flatten()).view_as(label), zero)
    if reduction == "mean":
        g = g / a.sum()
    g = torch.where(kept, g, zero)  # and not g * kept: nothing is left of an infinite g either
    return g, g if weight is None else g * a, label


class NLLLossFunction(Function):
    """``x``: (C,) or (N, C, d...), ``target``: () or (N, d...), ``weight``: (C,) or None."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
    ) -> Tensor:
        return torch.nn.functional.nll_loss(
            x, target, weight, ignore_index=ignore_index, reduction=reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, ctx.ignore_index, ctx.reduction = inputs
        ctx.shape, ctx.axis, ctx.dtype = x.shape, class_axis(x), x.dtype
        ctx.save_for_backward(target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        target, weight = ctx.saved_tensors
        axis, classes = ctx.axis, ctx.shape[ctx.axis]
        grad_x = torch.zeros(ctx.shape, dtype=ctx.dtype, device=grad_y.device)
        if classes > 0:  # of no classes no label can be right, but all may be ignored
            _, r, label = counted(grad_y, target, weight, ctx.ignore_index, ctx.reduction, classes)
            at = (axis, label.unsqueeze(axis), -r.to(ctx.dtype).unsqueeze(axis))
            grad_x = grad_x.scatter(*at) if is_recorded() else grad_x.scatter_(*at)
        return grad_x, None, None, None, None


def by_class(x: Tensor) -> str:
    """What torch calls the kernel for logits of this rank, in its errors."""
    return "nll_loss_forward" if x.dim() <= 2 else "nll_loss2d_forward"


@under_autocast("float32")
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood, gradient by hand; as ``torch.nn.functional.nll_loss``.

    Args:
        input: log-probabilities (C,), (N, C) or (N, C, d...)
        target: int64 classes in [0, C): (), (N,) or (N, d...)
        weight: (C,) of the classes, a constant
        size_average: deprecated, see ``reduction``
        ignore_index: the target that does not count
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the shape of ``target`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not fit and a weight that requires a gradient.
        IndexError: From torch, for a target out of range.
    """
    reduction = named(reduction, size_average, reduce)
    constants(by_class(input), weight=weight)
    return NLLLossFunction.apply(input, target, weight, ignore_index, reduction)


class NLLLoss(torch.nn.NLLLoss):
    """``torch.nn.NLLLoss`` whose gradient is :class:`NLLLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map (N, C, d...) and (N, d...) to the loss."""
        return nll_loss(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    label = draw.integers(3, 5)
    weight = draw.uniform(3, low=0.5)
    yield sample(draw(5, 3), label)
    yield sample(draw(5, 3), label, weight, reduction="none", label="weight, none")
    yield sample(draw(5, 3), label, weight, ignore_index=1, label="weight, ignored")
    yield sample(draw(5, 3), label, ignore_index=1, reduction="sum", label="sum, ignored")
    yield sample(
        draw(5, 3), torch.ones_like(label), ignore_index=1, label="all ignored", smooth=False
    )
    yield sample(draw(3), draw.integers(3), weight, label="unbatched")
    yield sample(draw(2, 3, 4), draw.integers(3, 2, 4), weight, ignore_index=2, label="1d")
    yield sample(draw(2, 3, 4, 5), draw.integers(3, 2, 4, 5), reduction="none", label="2d")
    yield sample(draw(0, 3), draw.integers(3, 0), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw.integers(3, 4), label="lengths differ")
    yield sample(draw(5, 3), draw.integers(1, 5) + 3, label="out of range")
    yield sample(draw(5, 3), draw.integers(3, 5), draw(3), label="weight requires grad")
    yield sample(draw(5, 3), draw.integers(3, 5), reduction="average", label="reduction")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(5, 3), draw.integers(3, 5)))
    yield sample((draw(2, 3, 4), draw.integers(3, 2, 4)), draw.uniform(3), ignore_index=1)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.integers(512, 64))
    yield sample(draw(1024, 2048), draw.integers(2048, 1024))


SPEC = Spec(
    name="nll_loss",
    formula="L = -mean_n weight[t_n] x_{n, t_n}",
    gradient="dx_nc = -dL weight[t_n] / sum_m weight[t_m]  where c = t_n, else 0",
    manual=nll_loss,
    native=torch.nn.functional.nll_loss,
    samples=_samples,
    refused=_refused,
    modules={NLLLoss: _modules},
    bench=_bench,
)
