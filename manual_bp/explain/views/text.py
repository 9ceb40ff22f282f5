"""Plain text: for a pipe, and for ``print``."""

from __future__ import annotations

from manual_bp.explain.explanation import Explanation, Operation, Symbol, Update
from manual_bp.explain.views.numbers import abridged, number

__all__ = ["render", "text"]


def text(explanation: Explanation, precision: int = 4) -> str:
    """The whole step: forward, backward, update."""
    lines = [
        f"{explanation.title}: one learning step, {explanation.dtype}",
        f"loss {number(explanation.loss.item(), precision)}",
        "",
        "forward",
    ]
    for operation in explanation.operations:
        lines += _forward(operation, precision)
    lines += ["", "backward"]
    for index in explanation.backward:
        lines += _backward(explanation.operations[index], precision)
    lines += ["", "update" + (f" by {explanation.optimizer}" if explanation.optimizer else "")]
    for update in explanation.updates:
        lines += _update(update, precision)
    lines += ["", *explanation.notes]
    if explanation.error is not None:
        lines.append(f"largest relative error against autograd: {explanation.error:.1e}")
    return "\n".join(lines).rstrip() + "\n"


render = text


def _forward(operation: Operation, precision: int) -> list[str]:
    lines = [f"{operation.index:>4}  {operation.title}    {operation.formula}".rstrip()]
    lines += [_symbol(s, s.value, s.name, precision) for s in operation.symbols]
    return lines


def _backward(operation: Operation, precision: int) -> list[str]:
    lines = [f"{operation.index:>4}  {operation.title}    {operation.rule}".rstrip()]
    for s in [*operation.outputs, *operation.inputs]:
        if s.gradient is not None:
            lines.append(_symbol(s, s.gradient, f"d{s.name}", precision))
    if operation.error is not None:
        lines.append(f"        relative error against autograd {operation.error:.1e}")
    return lines


def _symbol(symbol: Symbol, tensor: object, name: str, precision: int) -> str:
    whose = f" ({symbol.parameter})" if symbol.parameter else ""
    return f"        {name}{whose} = {abridged(tensor, precision)}"  # type: ignore[arg-type]


def _update(update: Update, precision: int) -> list[str]:
    lines = [f"      {update.name}"]
    for label, tensor in (
        ("before", update.before),
        ("gradient", update.gradient),
        ("after", update.after),
    ):
        if tensor is not None:
            lines.append(f"        {label} = {abridged(tensor, precision)}")
    return lines
