"""Operations whose output depends, element by element, on their inputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from torch import Tensor

from manual_bp.explain.symbols import spec_of
from manual_bp.explain.worked.example import Example, Place, Worked, name_at

__all__ = ["elementwise"]


def elementwise(example: Example) -> Worked:
    """The formula with its numbers; the slope, and the chain rule with it."""
    operation, y, at = example.operation, example.y, example.at
    lines = Worked()
    inputs = {s.name: s for s in operation.inputs if s.value.is_floating_point()}
    elements = {name: _element(s.value, at, y.shape) for name, s in inputs.items()}
    pointwise = [s for s in operation.inputs if s.slope is not None]
    if not pointwise or any(v is None for v in elements.values()):
        return lines
    substituted = _substituted(example, {k: v for k, v in elements.items() if v is not None})
    lines.forward.append(
        f"{name_at(y.name, at)} = {substituted} = {example.bare(y.value[at])}"
        if substituted
        else f"{name_at(y.name, at)} = {operation.name}"
        f"({', '.join(example.bare(v) for v in elements.values() if v is not None)})"
        f" = {example.bare(y.value[at])}"
    )
    for s in pointwise:
        if s.gradient is None or y.gradient is None or s.slope is None or s.shape != y.shape:
            continue
        g, slope = y.gradient[at], s.slope[at]
        lines.arriving = (f"d{y.name}", at)
        lines.backward.append(f"∂{y.name}/∂{s.name} = {example.bare(slope)}")
        lines.backward.append(
            f"d{name_at(s.name, at)} = d{name_at(y.name, at)} * ∂{y.name}/∂{s.name} = "
            f"{example.show(g)} * {example.show(slope)} = {example.bare(s.gradient[at])}"
        )
    return lines


def _element(value: Tensor, at: Place, shape: Sequence[int]) -> Tensor | None:
    """The element of an input that meets the output's at a place; None where shapes do not fit."""
    try:
        return value.expand(tuple(shape))[at]
    except RuntimeError:
        return value.reshape(()) if value.numel() == 1 and len(shape) == 0 else None


def _substituted(example: Example, elements: dict[str, Tensor]) -> str:
    """The right side of the formula with numbers for its letters; "" where a letter is left."""
    spec = spec_of(example.operation.name)
    formula = example.operation.formula
    if spec is None or ",  " in formula or " where " in formula or "_" in formula:
        return ""
    _, equals, right = formula.partition(" = ")
    settings = {**_defaults(spec.manual), **example.operation.settings}
    text, last = "", ""
    for match in re.finditer(r"[A-Za-z]+\d*|\d+\.?\d*|\s+|.", right):
        piece = match.group()
        letter = {"y": "other", "x": "input", "p": "exponent"}.get(piece, piece)
        shown = ""
        if piece in elements:
            shown = example.show(elements[piece])
        elif isinstance(number_ := settings.get(piece, settings.get(letter)), (int, float)):
            shown = example.show(float(number_))
        elif piece.isalpha() and piece != "e" and len(piece) == 1:
            return ""
        if shown and last in ("number", "close"):
            text = text.rstrip() + " * "
        text += shown or piece
        if not piece.isspace():
            last = "number" if shown or piece[0].isdigit() else "close" if piece == ")" else ""
    text = re.sub(r"(?<![\d.^/(])1 \* ", "", text.strip())
    text = re.sub(r"([(,] ?)\((-[^()]+)\)(?=[,)])", r"\1\2", text)  # max((-1), 0)
    return text if equals else ""


def _defaults(face: Callable[..., object]) -> dict[str, object]:
    parameters = inspect.signature(face).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
