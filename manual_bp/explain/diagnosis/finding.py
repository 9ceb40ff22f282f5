"""What a diagnosis consists of, as data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from manual_bp.explain.diagnosis.cures import CURES
from manual_bp.explain.diagnosis.summary import Summary

__all__ = ["Diagnosis", "Finding", "Severity"]

Severity = Literal["error", "warning", "note"]
"""Training cannot go on; it suffers; it is as somebody wanted it, perhaps."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with the numbers that say so.

    Attributes:
        kind: A key of :data:`manual_bp.explain.diagnosis.cures.CURES`: "dead units".
        where: Path of the module, or name of the parameter: "layers.2", "layers.2.weight".
        text: What was seen, in a sentence or two, with its numbers.
        operation: torch's name of the operation, where there is one: "log".
        formula: That operation's formula, forward or backward, as its layer's file has it.
        tensors: Shape and range of what went in and came out.
        numbers: The numbers of ``text``, for a program.
        severity: "error", "warning" or "note".
    """

    kind: str
    where: str
    text: str
    operation: str = ""
    formula: str = ""
    tensors: tuple[Summary, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    severity: Severity = "warning"

    @property
    def cure(self) -> str:
        """What usually helps, in one or two sentences."""
        return CURES[self.kind].text

    @property
    def source(self) -> str:
        """Where that is told."""
        return CURES[self.kind].source

    @property
    def title(self) -> str:
        """``layers.2: relu: dead units``."""
        return ": ".join(part for part in (self.where, self.operation, self.kind) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "where": self.where,
            "operation": self.operation,
            "text": self.text,
            "formula": self.formula,
            "tensors": [summary.to_dict() for summary in self.tensors],
            "numbers": self.numbers,
            "cure": self.cure,
            "source": self.source,
        }

    def __str__(self) -> str:
        """Give title and text in a line."""
        return f"{self.title}. {self.text}"


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a step of a network; true where something is.

    ``print`` shows it, in colour on a terminal; :meth:`to_dict` and :meth:`to_json` give it to a
    program.

    Attributes:
        model: Class of the model.
        findings: The gravest first; of what is equally grave, what comes first in the network.
        loss: The loss, NaN where it is none.
        calls: How many operations were watched in the forward pass.
        parameters: How many numbers the network's parameters have.
    """

    model: str
    findings: tuple[Finding, ...]
    loss: float
    calls: int
    parameters: int

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "model": self.model,
            "healthy": self.healthy,
            "loss": self.loss if abs(self.loss) < float("inf") else str(self.loss),
            "operations": self.calls,
            "parameters": self.parameters,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Everything as JSON, without NaN or infinity, which JSON does not know."""
        return json.dumps(_plain(self.to_dict()), indent=indent, allow_nan=False)

    def text(self, width: int = 100) -> str:
        """The diagnosis as plain text."""
        from manual_bp.explain.diagnosis.render import render

        return render(self, width=width, colour=False)

    def __str__(self) -> str:
        from manual_bp.explain.diagnosis.render import render

        return render(self, colour=sys.stdout.isatty())


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know as text."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
