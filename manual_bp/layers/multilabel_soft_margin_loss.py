r"""Multi-label soft margin: one yes or no for each class, each by the logistic loss.

Indices: ``n`` example, ``c`` class of ``C``, ``t_nc`` 1 or 0, ``w_c`` weighs the classes (1
without). dL/dl_n is the share of ``manual_bp/reduction.py``.

Forward, p = sigmoid(x)::

    l_n = -1/C sum_c w_c (t_nc log p_nc + (1 - t_nc) log(1 - p_nc))     (N)

Backward, as for binary cross-entropy from logits::

    dL/dx_nc = dL/dl_n w_c (p_nc - t_nc) / C                            (N, C)
    dL/dt_nc = -dL/dl_n w_c x_nc / C                                    (N, C)
    dL/dw_c  = -1/C sum_n dL/dl_n (t_nc log p_nc + (1 - t_nc) log(1 - p_nc))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, widened
from manual_bp.reduction import fitted, named, share, times
from manual_bp.spec import Draw, Sample, Spec, sample


class MultiLabelSoftMarginLossFunction(Function):
    """``x``, ``target``: (..., C); ``weight``: a shape that broadcasts, or None."""

    @staticmethod
    def forward(x: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
        return torch.nn.functional.multilabel_soft_margin_loss(
            x, target, weight, reduction=reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, target, weight, ctx.reduction = inputs
        ctx.save_for_backward(x, target, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, target, weight = ctx.saved_tensors
        u, t, w = widened(x, target, weight)
        shape = torch.broadcast_shapes(*(s.shape for s in (x, target, weight) if s is not None))
        axis = x.dim() - 1  # where torch looks for the classes, whatever x is broadcast to
        examples = shape.numel() // max(shape[axis], 1)
        g = share(grad_y, ctx.reduction, examples, 1 / max(x.shape[axis], 1))
        g = g.unsqueeze(axis) if ctx.reduction == "none" else g
        weighted = g if weight is None else g * w
        grad_x = grad_target = grad_weight = None
        if ctx.needs_input_grad[0]:
            p = torch.sigmoid(u)
            if is_recorded() or p.shape != shape:
                grad_x = fitted((p - t) * weighted, x)
            else:
                grad_x = fitted(times(p.sub_(t), weighted), x)
        if ctx.needs_input_grad[1]:
            grad_target = fitted((-u * weighted).expand(shape), target)
        if ctx.needs_input_grad[2]:
            log_sigmoid = torch.nn.functional.logsigmoid
            likelihood = t * log_sigmoid(u) + (1 - t) * log_sigmoid(-u)
            grad_weight = fitted((-g * likelihood).expand(shape), weight)
        return grad_x, grad_target, grad_weight, None


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Logistic loss of each class; as ``torch.nn.functional.multilabel_soft_margin_loss``.

    Args:
        input: logits (..., C)
        target: 0 or 1, the same shape
        weight: (C,) of the classes, or a shape that broadcasts
        size_average: deprecated, see ``reduction``
        reduce: deprecated, see ``reduction``
        reduction: "none", "mean" or "sum"

    Returns:
        A number, or the shape without C with ``reduction="none"``.

    Raises:
        RuntimeError: From torch, for shapes that do not broadcast.
        ValueError: From torch, for an unknown reduction.
    """
    reduction = named(reduction, size_average, reduce)
    return MultiLabelSoftMarginLossFunction.apply(input, target, weight, reduction)


class MultiLabelSoftMarginLoss(torch.nn.MultiLabelSoftMarginLoss):
    """``torch.nn.MultiLabelSoftMarginLoss`` by :class:`MultiLabelSoftMarginLossFunction`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Map logits and truth (N, C) to the loss."""
        return multilabel_soft_margin_loss(
            input, target, weight=self.weight, reduction=self.reduction
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 3))
    yield sample(draw(4, 3), draw(4, 3), draw(3), reduction="none", label="weight, none")
    yield sample(draw(2, 4, 3), draw(2, 4, 3), draw(4, 3), label="three axes, weight")
    yield sample(draw(3), draw(3), draw(3), reduction="sum", label="unbatched, sum")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.uniform(4, 2), label="shapes differ")
    yield sample(draw(4, 3), draw.uniform(4, 3), reduction="average", label="reduction")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(4, 3), draw.uniform(4, 3)))
    yield sample((draw(4, 3), draw.uniform(4, 3)), draw.fixed(3), reduction="sum")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw.uniform(64, 512))
    yield sample(draw(1024, 2048), draw.uniform(1024, 2048))


SPEC = Spec(
    name="multilabel_soft_margin_loss",
    formula="L = -mean(w (t log sigmoid(x) + (1 - t) log sigmoid(-x)))",
    gradient="dx = dL w (sigmoid(x) - t) / (N C),  dt = -dL w x / (N C)",
    manual=multilabel_soft_margin_loss,
    native=torch.nn.functional.multilabel_soft_margin_loss,
    samples=_samples,
    refused=_refused,
    modules={MultiLabelSoftMarginLoss: _modules},
    bench=_bench,
)
