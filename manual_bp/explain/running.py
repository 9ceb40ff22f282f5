"""Running somebody's model: on tensors of its own, and with a sentence where it cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["cause", "detached", "output_of", "tensors"]


def output_of(model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What the model makes of these arguments.

    Raises:
        ValueError: With the shapes of the tensors among them, where it raises anything.
    """
    try:
        return model(*inputs, **named)
    except Exception as error:
        shapes = ", ".join(f"{tuple(t.shape)}" for t in tensors((inputs, named)))
        raise ValueError(
            f"{type(model).__name__} cannot run on inputs of shape {shapes or '(none)'}: "
            f"{cause(error)}"
        ) from error


def detached(values: Any) -> Any:
    """The same structure with tensors of its own that start a graph."""
    if isinstance(values, Tensor):
        return values.detach().clone().requires_grad_(values.requires_grad)
    if isinstance(values, dict):
        return type(values)((k, detached(v)) for k, v in values.items())
    if isinstance(values, (list, tuple)):
        parts = [detached(v) for v in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return values


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors of a structure, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)


def cause(error: Exception) -> str:
    """The first line of what went wrong, without a full stop."""
    text = str(error).strip().split("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
