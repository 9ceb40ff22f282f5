"""JSON: everything, for a program to read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from manual_bp.explain.explanation import Explanation, Update
from manual_bp.explain.operation import Operation, Symbol

__all__ = ["FULL", "render", "to_dict"]

FULL = 1024
"""The largest number of elements that is written out."""


def render(explanation: Explanation, precision: int = 17) -> str:
    """The step as JSON; numbers in full, whatever the precision of the other views."""
    return json.dumps(to_dict(explanation), indent=1, allow_nan=False) + "\n"


def to_dict(
    explanation: Explanation, full: int = FULL, digits: int | None = None
) -> dict[str, Any]:
    """The step in lists, dicts, strings and numbers; NaN and infinity as strings.

    Args:
        explanation: The step.
        full: The largest number of elements of a tensor that is written out.
        digits: Significant digits of a tensor's numbers; None for all.
    """
    write = _Writer(full, digits)
    return {
        "title": explanation.title,
        "model": explanation.model,
        "dtype": explanation.dtype,
        "optimizer": explanation.optimizer,
        "loss": plain(float(explanation.loss)),
        "error": plain(explanation.error),
        "modules": explanation.modules,
        "operations": [write.operation(o) for o in explanation.operations],
        "backward": explanation.backward,
        "updates": [write.update(u) for u in explanation.updates],
        "notes": explanation.notes,
        "question": explanation.question,
        "answer": [a if isinstance(a, str) else asdict(a) for a in explanation.answer],
    }


class _Writer:
    def __init__(self, full: int, digits: int | None) -> None:
        self.full, self.digits = full, digits

    def operation(self, o: Operation) -> dict[str, Any]:
        return {
            "index": o.index,
            "name": o.name,
            "by_hand": o.by_hand,
            "module": o.module,
            "kind": o.kind,
            "formula": o.formula,
            "rule": o.rule,
            "settings": {name: str(value) for name, value in o.settings.items()},
            "inputs": [self.symbol(s) for s in o.inputs],
            "outputs": [self.symbol(s) for s in o.outputs],
            "dead": o.dead,
            "saturated": o.saturated,
            "dead_units": o.dead_units,
            "error": plain(o.error),
        }

    def symbol(self, s: Symbol) -> dict[str, Any]:
        return {
            "name": s.name,
            "argument": s.argument,
            "parameter": s.parameter,
            "buffer": s.buffer,
            "producer": s.producer,
            "wanted": s.wanted,
            "value": self.tensor(s.value),
            "gradient": self.tensor(s.gradient),
            "slope": self.tensor(s.slope),
            "error": plain(s.error),
        }

    def update(self, u: Update) -> dict[str, Any]:
        return {
            "name": u.name,
            "rule": u.rule,
            "numbers": {name: plain(value) for name, value in u.numbers.items()},
            "wanted": u.wanted,
            "before": self.tensor(u.before),
            "gradient": self.tensor(u.gradient),
            "after": self.tensor(u.after),
            "ratio": plain(u.ratio),
            "error": plain(u.error),
            "error_after": plain(u.error_after),
        }

    def tensor(self, t: Tensor | None) -> dict[str, Any] | None:
        """Shape, dtype, norm, range and, of a small tensor, the numbers."""
        if t is None:
            return None
        told: dict[str, Any] = {
            "shape": list(t.shape),
            "dtype": str(t.dtype).removeprefix("torch."),
        }
        if t.is_complex():
            told["norm"] = plain(float(t.norm()))
        elif t.numel():
            wide = t.double()
            finite = wide[torch.isfinite(wide)]
            told["norm"] = plain(float(finite.norm()))
            told["min"] = plain(float(finite.min())) if finite.numel() else None
            told["max"] = plain(float(finite.max())) if finite.numel() else None
            told["not_finite"] = t.numel() - finite.numel()
            if t.numel() <= self.full:
                told["values"] = self._plainly(t.tolist())
        return told

    def _plainly(self, value: Any) -> Any:
        return (
            [self._plainly(v) for v in value] if isinstance(value, list) else self._rounded(value)
        )

    def _rounded(self, value: float) -> float | str | None:
        if self.digits is not None and isinstance(value, float) and math.isfinite(value):
            value = float(f"{value:.{self.digits}g}")
        return plain(value)


def plain(value: float | None) -> float | str | None:
    """A number as JSON can hold it: NaN and infinity as text."""
    if value is None or isinstance(value, (bool, int)) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
