r"""From a loss for each element to one number, and from its gradient back to each element's.

Indices: ``n`` element, ``N`` elements. Forward, for ``reduction`` "none", "sum" and "mean"::

    L_n = l_n        L = sum_n l_n        L = 1/N sum_n l_n

Backward: the share of ``dL`` that falls to an element::

    dL/dl_n = dL_n   dL/dl_n = dL         dL/dl_n = dL / N

Every loss multiplies its own ``dl_n/dx_n`` with that share. With weights, "mean" is
``L = sum_n w_n l_n / W`` with ``W = sum_n w_n``, in which a weight counts twice::

    dL/dl_n = dL w_n / W                 dL/dw_n = dL (l_n - L) / W
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import _reduction

from manual_bp.function import Function, is_recorded, widened

__all__ = ["constants", "fitted", "named", "of_difference", "reduced", "share", "times", "weighted"]


def named(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """``reduction``, or what the two arguments that it replaced say, with torch's warning."""
    if size_average is None and reduce is None and reduction != "elementwise_mean":
        return reduction
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if size_average is None and reduce is None:  # an old name
            _reduction.get_enum(reduction)
            reduction = "mean"
        else:
            reduction = _reduction.legacy_get_string(size_average, reduce)
    for warning in caught:  # said again from here, so that it points at the caller's line
        warnings.warn(warning.message, stacklevel=4)
    return reduction


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """``L`` from ``l_n``."""
    _reduction.get_enum(reduction)  # refuses a word that is none
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def share(grad_y: Tensor, reduction: str, count: int, slope: float = 1.0) -> Tensor:
    """``dL/dl_n * slope``: a number, or a tensor with ``reduction="none"``; at least float32."""
    (grad_y,) = widened(grad_y)
    if reduction == "mean":
        slope = slope / max(count, 1)  # of no elements there is no gradient to be had
    return grad_y if slope == 1 else grad_y * slope


def times(x: Tensor, factor: Tensor) -> Tensor:
    """``x * factor``; ``x`` is the caller's own and is overwritten where nothing records it."""
    return x * factor if is_recorded() else x.mul_(factor)


def fitted(grad: Tensor, argument: Tensor) -> Tensor:
    """``grad``, summed over the axes along which ``argument`` was repeated, in its dtype."""
    return grad.sum_to_size(argument.shape).to(argument.dtype)


def of_difference(
    ctx: Any, grad: Tensor, x: Tensor, target: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """``dL/dx`` and ``dL/dtarget`` from the gradient with respect to ``x - target``.

    Each is summed over the axes along which its argument was repeated.
    """
    grad_x = grad_target = None
    if ctx.needs_input_grad[0]:
        grad_x = fitted(grad, x)
    if ctx.needs_input_grad[1]:
        grad_target = -fitted(grad, target)
    return grad_x, grad_target


def constants(function: str, **arguments: Tensor | None) -> None:
    """Refuse, as torch does, to differentiate ``function`` by one of these arguments."""
    for name, argument in arguments.items():
        if argument is not None and argument.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"The function '{function}' is not differentiable with respect to argument "
                f"'{name}'. This input cannot have requires_grad True."
            )


class WeightedFunction(Function):
    """``losses``: any shape; ``weight``: one that broadcasts to it."""

    @staticmethod
    def forward(losses: Tensor, weight: Tensor, reduction: str, over_weights: bool) -> Tensor:
        weighted = losses * weight
        if reduction == "mean" and over_weights:
            return weighted.sum() / weight.sum()
        return reduced(weighted, reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        losses, weight, ctx.reduction, ctx.over_weights = inputs
        ctx.save_for_backward(losses, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        losses, weight = ctx.saved_tensors
        l, w, g = widened(losses, weight, grad_y)  # noqa: E741
        grad_losses = grad_weight = None
        normalized = ctx.reduction == "mean" and ctx.over_weights
        g = g / w.sum() if normalized else share(g, ctx.reduction, l.numel())
        if ctx.needs_input_grad[0]:
            grad_losses = (g * w).to(losses.dtype).expand_as(losses)
        if ctx.needs_input_grad[1]:
            if normalized:
                mean = (l * w).sum() / w.sum()
                grad_weight = g * (l.sum_to_size(weight.shape) - mean)
            else:
                grad_weight = (g * l).sum_to_size(weight.shape)
            grad_weight = grad_weight.to(weight.dtype)
        return grad_losses, grad_weight, None, None


def weighted(losses: Tensor, weight: Tensor, reduction: str, over_weights: bool = True) -> Tensor:
    """The losses times their weights, reduced.

    Args:
        losses: any shape
        weight: a shape that broadcasts to it
        reduction: "none", "sum" or "mean"
        over_weights: whether "mean" divides by the sum of the weights, or by their number

    Raises:
        ValueError: For another ``reduction``.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(
            f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'."
        )
    return WeightedFunction.apply(losses, weight, reduction, over_weights)
