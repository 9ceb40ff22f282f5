r"""Kullback-Leibler divergence: what it costs to take one distribution for another.

Indices: ``n`` element. ``x`` holds log-probabilities, ``t`` the true probabilities or, with
``log_target``, their logarithms. Both broadcast to a common shape. dL/dl_n is the share of
``manual_bp/reduction.py``; with "batchmean" it is dL / N, N the length of the first axis.

Forward and backward::

    l_n = t_n (log t_n - x_n),  0 where t_n = 0         l_n = exp(t_n) (t_n - x_n)
    dL/dx_n = -dL/dl_n t_n                              dL/dx_n = -dL/dl_n exp(t_n)
    dL/dt_n = dL/dl_n (log t_n - x_n + 1)               dL/dt_n = dL/dl_n exp(t_n) (t_n - x_n + 1)

The 1 is the gradient of t log t by its second t, t/t: a probability of 0 has no derivative here,
and torch's is NaN. The sum of ``l`` is never negative where both are distributions, and 0 where
they agree.

Kullback & Leibler (1951), "On Information and Sufficiency", section 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.reduction import fitted, named, reduced, share
from manual_bp.spec import Draw, Sample, Spec, sample


class KLDivFunction(Function):
    """``x`` and ``target``: shapes that broadcast."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, reduction: str, log_target: bool) -> Tensor:
        if log_target:
            losses = target.exp() * (target - x)
        else:
            losses = torch.xlogy(target, target) - target * x
        if reduction == "batchmean":
            return losses.sum() / (x.shape[0] if x.dim() > 0 else 1)
        return reduced(losses, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, ctx.reduction, ctx.log_target = inputs
        ctx.save_for_backward(x, target)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target = ctx.saved_tensors
        logp, t = widened(x, target)
        shape = torch.broadcast_shapes(x.shape, target.shape)
        reduction, count = ctx.reduction, shape.numel()
        if reduction == "batchmean":
            reduction, count = "mean", x.shape[0] if x.dim() > 0 else 1
        g = share(grad_y, reduction, count)
        grad_x = grad_target = None
        p = t.exp() if ctx.log_target else t
        if ctx.needs_input_grad[0]:
            grad_x = fitted((p * -g).expand(shape), x)
        if ctx.needs_input_grad[1]:
            slope = p * (t - logp + 1) if ctx.log_target else t.log() + t / t - logp
            grad_target = fitted(g * slope, target)
        return grad_x, grad_target, None, None


@under_autocast("float32")
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence, gradients by hand; as ``torch.nn.functional.kl_div``.

    Args:
        input: log-probabilities, any shape
        target: probabilities, or their logarithms with ``log_target``; the same shape
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "sum", "batchmean" (the sum over the length of the first axis) or
            "mean", which torch warns of: it divides by the number of elements
        log_target: whether ``target`` is given as logarithms

    Returns:
        A number, or the shape of ``input`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        ValueError: From torch, for an unknown reduction.
    """
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "kl_div: reduction 'mean' divides by the number of elements; it is 'batchmean' that "
            "gives the divergence, averaged over the batch",
            stacklevel=3,
        )
    reduction = named(reduction, size_average, reduce)
    if input.is_complex():  # which torch refuses
        return torch.kl_div(input, target, log_target=log_target)
    return KLDivFunction.apply(input, target, reduction, log_target)


class KLDivLoss(torch.nn.KLDivLoss):
    """``torch.nn.KLDivLoss`` whose gradients are :class:`KLDivFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map log-probabilities and probabilities of one shape to the loss."""
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


def _samples(draw: Draw) -> Iterator[Sample]:
    some = draw.uniform(4, 3, low=0.1).requires_grad_()
    yield sample(draw(4, 3), some, reduction="batchmean")
    yield sample(draw(4, 3), some, reduction="none", label="none")
    yield sample(draw(4, 3), draw(4, 3), reduction="sum", log_target=True, label="log_target")
    never = draw.uniform(4, 3, low=-1.0).clamp(min=0.0)
    yield sample(draw(4, 3), never, reduction="sum", label="probabilities of 0")
    yield sample(draw(4, 3), draw(3), reduction="batchmean", log_target=True, label="broadcast")
    yield sample(draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 2), reduction="sum", label="shapes differ")
    yield sample(draw(4, 3), draw.uniform(4, 3), reduction="average", label="reduction")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw.uniform(4, 3)), reduction="batchmean")
    yield sample((draw(4, 3), draw(4, 3)), reduction="sum", log_target=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.uniform(64, 512), reduction="batchmean")
    yield sample(draw(1024, 2048), draw.uniform(1024, 2048), reduction="batchmean")


SPEC = Spec(
    name="kl_div",
    formula="L = sum t (log t - x) / N",
    gradient="dx = -dL t / N,  dt = dL (log t - x + 1) / N",
    manual=kl_div,
    native=torch.nn.functional.kl_div,
    samples=_samples,
    refused=_refused,
    modules={KLDivLoss: _modules},
    bench=_bench,
)
