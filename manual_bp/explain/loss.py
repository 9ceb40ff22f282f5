"""The one number that a step goes down on, for :func:`explain` and :func:`diagnose`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from manual_bp.explain.running import cause
from manual_bp.wording import article

__all__ = ["loss_name", "loss_of"]


def loss_of(output: Any, target: Any, loss: Callable[..., Any] | None) -> Tensor:
    """The loss of an output.

    Args:
        output: What the model made: a tensor, a tuple that begins with one, or an object with a
            ``loss`` or ``logits``.
        target: What it should have been, or None.
        loss: ``loss(output, target)``, or ``loss(output)`` without a target; None for the default
            of :func:`manual_bp.explain`.

    Returns:
        One floating-point number.

    Raises:
        ValueError: Where it cannot be computed, or is not one number.
    """
    if loss is not None:
        given = (output,) if target is None else (output, target)
        try:
            value = loss(*given)
        except Exception as error:
            raise ValueError(f"the loss cannot be computed: {cause(error)}") from error
    else:
        value = _default_loss(output, target)
    if not isinstance(value, Tensor):
        raise ValueError(f"the loss has to be one number, got {type(value).__name__}")
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(
            f"the loss has to be one number, got {str(value.dtype).removeprefix('torch.')} of "
            f"shape {tuple(value.shape)}"
        )
    return value


def _default_loss(output: Any, target: Any) -> Any:
    told = getattr(output, "loss", None)
    if target is None and isinstance(told, Tensor):
        return told
    output = getattr(output, "logits", output)
    if isinstance(output, (list, tuple)) and output:
        output = output[0]
    if target is None:
        if isinstance(output, Tensor) and output.numel() == 1:
            return output
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the output is no loss, it has shape {shape}: give a target, or a loss of your own"
        )
    if not isinstance(target, Tensor) or not isinstance(output, Tensor):
        raise ValueError(
            f"{article(type(output).__name__)} and {article(type(target).__name__)} have no loss "
            "of their own: give loss=..."
        )
    try:
        if target.is_floating_point():
            return nn.functional.mse_loss(output, target)
        if output.dim() == target.dim() + 1 and output.dim() == 3:  # (N, T, C): one long batch
            return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())
        return nn.functional.cross_entropy(output, target)
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"an output of shape {tuple(output.shape)} and a target of shape "
            f"{tuple(target.shape)} do not fit: {cause(error)}"
        ) from error


def loss_name(loss: Any) -> str:
    """What a loss function is called; nothing for the default."""
    return "" if loss is None else getattr(loss, "__name__", type(loss).__name__)
