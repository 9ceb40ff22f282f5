"""One element of an operation, computed before the reader's eyes: the formula with its numbers.

Of all elements the one is taken at which the largest gradient arrives. The lines are written in
the notation of the specs, ``y[0, 1] = 0.5 * 2 + 0.1 = 1.1``, for a view to set.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from manual_bp.explain.explanation import Update
from manual_bp.explain.operation import Operation
from manual_bp.explain.views.numbers import number
from manual_bp.explain.worked.attention import attention
from manual_bp.explain.worked.convolution import convolution
from manual_bp.explain.worked.elementwise import elementwise
from manual_bp.explain.worked.embedding import embedding
from manual_bp.explain.worked.example import Example, Worked, name_at, shown, strongest
from manual_bp.explain.worked.losses import cross_entropy, mean, mse
from manual_bp.explain.worked.normalized import batch_norm, layer_norm, softmax
from manual_bp.explain.worked.products import linear, matmul

__all__ = ["Worked", "worked", "worked_update"]

_WRITERS: dict[str, Callable[[Example], Worked]] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "bmm": matmul,
    "addmm": matmul,
    "conv1d": convolution,
    "conv2d": convolution,
    "embedding": embedding,
    "scaled_dot_product_attention": attention,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "batch_norm": batch_norm,
    "cross_entropy": cross_entropy,
    "mse_loss": mse,
    "mean": mean,
    "sum": mean,
}


def worked(operation: Operation, precision: int = 4) -> Worked:
    """Work one element of an operation out, forward and backward.

    Args:
        operation: Of a recorded step.
        precision: Significant digits.
    """
    if len(operation.outputs) != 1:
        return Worked()
    writer = _WRITERS.get(operation.name, elementwise)
    try:
        lines = writer(Example(operation, precision))
    except (
        IndexError,
        KeyError,
        RuntimeError,
        ValueError,
    ):  # a form of the call that has no example
        return Worked()
    for part in (lines.forward, lines.backward):  # a sum of one term is the number itself
        part[:] = [re.sub(r" = (\S+) = \1$", r" = \1", line) for line in part]
    return lines


def worked_update(update: Update, precision: int = 4) -> str:
    """Work out the number of a parameter that moves most; "" where none does."""
    if update.change is None or update.gradient is None or update.change.is_complex():
        return ""
    if update.change.numel() == 0:
        return ""
    at = strongest(update.change)
    before, g = shown(update.before[at], precision), shown(update.gradient[at], precision)
    after = number(float((update.before + update.change)[at]), precision)
    name = name_at("theta", at)
    if update.rule == "theta = theta - lr g":
        lr = number(update.numbers.get("lr", 0.0), precision)
        return f"{name} = {before} - {lr} * {g} = {after}"
    return f"{name} = {before} + {shown(update.change[at], precision)} = {after}"
