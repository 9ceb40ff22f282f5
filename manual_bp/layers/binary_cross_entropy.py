r"""Binary cross-entropy: how far one probability is from yes or no.

Indices: ``n`` element; ``w`` weighs the elements (1 without), ``c`` the positive class (1 without).
dL/dl_n is the share of ``manual_bp/reduction.py``.

From a probability ``x`` in [0, 1]. So that a flat wrong answer costs 100 and not infinity, torch
bounds both logarithms from below by -100, and in the gradient the denominator by 1e-12::

    l_n = -w_n (t_n log x_n + (1 - t_n) log(1 - x_n))
    dL/dx_n = dL/dl_n w_n (x_n - t_n) / max(x_n (1 - x_n), 1e-12)
    dL/dt_n = dL/dl_n w_n (log(1 - x_n) - log x_n)

From a logit, ``x = log(p / (1 - p))``, p = sigmoid(x), with ``pos_weight`` c::

    l_n = -w_n (c t_n log sigmoid(x_n) + (1 - t_n) log sigmoid(-x_n))
    dL/dx_n = dL/dl_n w_n ((1 - t_n) p_n - c t_n (1 - p_n))
    dL/dt_n = dL/dl_n w_n (log sigmoid(-x_n) - c log sigmoid(x_n))

    without c:  dL/dx_n = dL/dl_n w_n (p_n - t_n),  dL/dt_n = -dL/dl_n w_n x_n

The logit's gradient is the probability's times dp/dx = p (1 - p): the slope of the sigmoid, which
would stop an answer that is confidently wrong from learning, cancels the denominator, and
*prediction minus truth* is left, as it is with softmax and cross-entropy.

Bishop (2006), "Pattern Recognition and Machine Learning", section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.reduction import constants, named, share, times
from manual_bp.spec import Draw, Sample, Spec, sample

#: 1e-12, as torch's kernel holds it: rounded to float32 in every dtype.
SMALLEST_VARIANCE = torch.tensor(1e-12, dtype=torch.float32).item()


class BCELossFunction(Function):
    """``x`` in [0, 1] and ``target``: one shape; ``weight``: one that broadcasts to it, or None."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
        return torch.nn.functional.binary_cross_entropy(x, target, weight, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, ctx.reduction = inputs
        ctx.save_for_backward(x, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight = ctx.saved_tensors
        p, t, w = widened(x, target, weight)
        g = share(grad_y, ctx.reduction, p.numel())
        g = g if weight is None else g * w
        grad_x = grad_target = None
        if ctx.needs_input_grad[0]:
            variance = (p * (1 - p)).clamp(min=SMALLEST_VARIANCE)
            if is_recorded():
                grad_x = g * (p - t) / variance
            else:
                grad_x = (p - t).div_(variance).mul_(g)
            grad_x = grad_x.to(x.dtype)
        if ctx.needs_input_grad[1]:
            grad_target = (g * (torch.log1p(-p) - p.log())).to(target.dtype)
        return grad_x, grad_target, None, None


class BCEWithLogitsLossFunction(Function):
    """``x`` and ``target``: one shape; ``weight`` and ``pos_weight``: broadcast to it, or None."""

    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, reduction: str
    ) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            x, target, weight, pos_weight=pos_weight, reduction=reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, pos_weight, ctx.reduction = inputs
        ctx.save_for_backward(x, target, weight, pos_weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight, pos_weight = ctx.saved_tensors
        logit, t, w, c = widened(x, target, weight, pos_weight)
        g = share(grad_y, ctx.reduction, logit.numel())
        g = g if weight is None else g * w
        grad_x = grad_target = None
        if ctx.needs_input_grad[0]:
            p = torch.sigmoid(logit)
            if pos_weight is not None:
                # 1 - p by its own sigmoid: where p rounds to 1, it is still exact.
                slope = (1 - t) * p - c * t * torch.sigmoid(-logit)
            else:
                slope = p - t if is_recorded() else p.sub_(t)
            grad_x = times(slope, g).to(x.dtype)
        if ctx.needs_input_grad[1]:
            grad_target = -logit
            if pos_weight is not None:
                log_sigmoid = torch.nn.functional.logsigmoid
                grad_target = log_sigmoid(-logit) - c * log_sigmoid(logit)
            grad_target = (g * grad_target).to(target.dtype)
        return grad_x, grad_target, None, None, None


@under_autocast("float32", devices=("cpu",))
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of probabilities; as ``torch.nn.functional.binary_cross_entropy``.

    Args:
        input: probabilities in [0, 1], any shape
        target: the same shape
        weight: a shape that broadcasts to it, a constant
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the shape of ``input`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for an input outside [0, 1] and a weight that requires a gradient.
        ValueError: From torch, for shapes that differ.
    """
    reduction = named(reduction, size_average, reduce)
    constants("binary_cross_entropy", weight=weight)
    return BCELossFunction.apply(input, target, weight, reduction)


@under_autocast("float32")
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Sigmoid and binary cross-entropy; as torch's ``binary_cross_entropy_with_logits``.

    Args:
        input: logits, any shape
        target: the same shape
        weight: a shape that broadcasts to it, a constant
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"
        pos_weight: of the positive class, a shape that broadcasts to ``target``, a constant

    Returns:
        A number, or the shape of ``input`` with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for weights that do not fit or require a gradient.
        ValueError: From torch, for shapes that differ.
    """
    reduction = named(reduction, size_average, reduce)
    constants("binary_cross_entropy_with_logits", weight=weight, pos_weight=pos_weight)
    return BCEWithLogitsLossFunction.apply(input, target, weight, pos_weight, reduction)


class BCELoss(torch.nn.BCELoss):
    """``torch.nn.BCELoss`` whose gradients are :class:`BCELossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map probabilities and targets of one shape to the loss."""
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """``torch.nn.BCEWithLogitsLoss``, gradients :class:`BCEWithLogitsLossFunction`'s."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map logits and targets of one shape to the loss."""
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


def _chance(draw: Draw, *shape: int) -> Tensor:
    return draw.uniform(*shape, low=0.05, high=0.95).requires_grad_()


def _bce_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(_chance(draw, 4, 3), draw.uniform(4, 3))
    yield sample(_chance(draw, 4, 3), _chance(draw, 4, 3), draw.fixed(3), label="weight")
    yield sample(_chance(draw, 4, 3), draw.uniform(4, 3), reduction="none", label="none")
    yield sample(_chance(draw, 4, 3), draw.uniform(4, 3), reduction="sum", label="sum")


def _bce_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.values(0.5, 1.5), draw.uniform(2), label="outside [0, 1]")
    yield sample(draw.uniform(4, 3), draw.uniform(4, 1), label="shapes differ")
    yield sample(_chance(draw, 4), draw.uniform(4), draw(4), label="weight requires grad")


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 3))
    both: dict[str, Any] = {"weight": draw.fixed(4, 1), "pos_weight": draw.uniform(3)}
    yield sample(draw(4, 3), _chance(draw, 4, 3), **both, label="weights")
    yield sample(draw(4, 3), _chance(draw, 4, 3), reduction="none", label="none")
    yield sample(draw(4, 3), draw.uniform(4, 3), pos_weight=draw.uniform(4, 3), label="pos_weight")
    far = draw.values(-800.0, -30.0, 0.0, 40.0, 800.0)
    yield sample(far, draw.uniform(5), reduction="sum", label="certain", smooth=False)
    far = draw.values(-800.0, -30.0, 0.0, 40.0, 800.0)
    yield sample(far, draw.uniform(5), pos_weight=draw.uniform(5), label="certain, pos_weight")
    yield sample(draw(0, 3), draw.fixed(0, 3), reduction="sum", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 1), label="shapes differ")
    yield sample(draw(4, 3), draw.uniform(4, 3), pos_weight=draw(3), label="requires grad")
    yield sample(draw(4, 3), draw.uniform(4, 3), pos_weight=draw.fixed(4), label="pos_weight")


def _bce_modules(draw: Draw) -> Iterator[Sample]:
    yield sample((_chance(draw, 4, 3), draw.uniform(4, 3)))
    yield sample((_chance(draw, 4, 3), draw.uniform(4, 3)), draw.fixed(3), reduction="none")
    # Here and not above: within 1e-12 of 0 and 1, where the gradient is bounded, torch's gradient
    # of the gradient is that of the unbounded one.
    edges = draw.values(0.0, 0.0, 1.0, 1.0, 1e-13, 0.5)
    truth = draw.values(0.0, 1.0, 0.0, 1.0, 1.0, 0.5).detach()
    yield sample((edges, truth), reduction="none", label="edges")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw.uniform(4, 3)))
    yield sample((draw(4, 3), draw.uniform(4, 3)), draw.fixed(3), pos_weight=draw.fixed(3))


def _bce_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(_chance(draw, 64, 512), draw.uniform(64, 512))
    yield sample(_chance(draw, 1024, 2048), draw.uniform(1024, 2048))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.uniform(64, 512))
    yield sample(draw(1024, 2048), draw.uniform(1024, 2048))


BCE = Spec(
    name="binary_cross_entropy",
    formula="L = -mean(t log x + (1 - t) log(1 - x))",
    gradient="dx = dL (x - t) / (x (1 - x)) / N,  dt = dL (log(1 - x) - log x) / N",
    manual=binary_cross_entropy,
    native=torch.nn.functional.binary_cross_entropy,
    samples=_bce_samples,
    refused=_bce_refused,
    modules={BCELoss: _bce_modules},
    bench=_bce_bench,
)

WITH_LOGITS = Spec(
    name="binary_cross_entropy_with_logits",
    formula="L = -mean(t log sigmoid(x) + (1 - t) log sigmoid(-x))",
    gradient="dx = dL (sigmoid(x) - t) / N,  dt = -dL x / N",
    manual=binary_cross_entropy_with_logits,
    native=torch.nn.functional.binary_cross_entropy_with_logits,
    samples=_samples,
    refused=_refused,
    modules={BCEWithLogitsLoss: _modules},
    bench=_bench,
)
