"""What a check found: data first, text from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from manual_bp.conformance.compare import Mismatch

__all__ = ["Failure", "ProbeResult", "Problem", "Report"]

PASSED, FAILED, LEFT_OUT, NOT_RUN = "passed", "failed", "left out", "not run"

# The reason of a probe that has no case for a call: no masks, a single output.
NOTHING = "nothing to vary"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one call.

    Attributes:
        kind: ``gradient``, ``output``, ``raised``, ``missing``, ``shape``, ``mutated``, ...
        subject: What is wrong: ``gradient of weight``, ``output 1``.
        text: A sentence that says how.
        mismatch: The two tensors, where there are two to compare.
        hint: What usually causes it.
        known: Other tensors of the same call by name, to find clues in.
    """

    kind: str
    subject: str
    text: str
    mismatch: Mismatch | None = None
    hint: str = ""
    known: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Failure:
    """A problem, the probe that found it and the smallest call that shows it.

    Attributes:
        probe: Name of the probe.
        case: What was special about the call: ``cotangent transposed``.
        call: The arguments, in one line.
        problem: What is wrong.
        clues: What is striking about the wrong numbers, the most telling first.
        values: The numbers of small inputs, by name.
    """

    probe: str
    case: str
    call: str
    problem: Problem
    clues: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the tensors themselves."""
        problem = self.problem
        return {
            "probe": self.probe,
            "case": self.case,
            "call": self.call,
            "kind": problem.kind,
            "subject": problem.subject,
            "text": problem.text,
            "clues": list(self.clues),
            "hint": problem.hint,
            "values": self.values,
            "mismatch": problem.mismatch.to_dict() if problem.mismatch else None,
        }


@dataclass(frozen=True)
class ProbeResult:
    """What became of one probe.

    Attributes:
        name: Of the probe.
        finds: What it is there to find, in one line.
        status: ``passed``, ``failed``, ``left out`` or ``not run``.
        cases: How many calls were compared.
        reasons: Why calls (or the probe) were left out, with how many each.
        failures: What it found.
        seconds: How long it took.
    """

    name: str
    finds: str
    status: str
    cases: int
    reasons: dict[str, int]
    failures: tuple[Failure, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The result, ready for JSON."""
        return {
            "name": self.name,
            "finds": self.finds,
            "status": self.status,
            "cases": self.cases,
            "left_out": self.reasons,
            "failures": [failure.to_dict() for failure in self.failures],
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class Report:
    """The verdict on one function, with everything that led to it.

    ``print(report)`` shows it, in colour on a terminal; :meth:`to_dict` and :meth:`to_json` give
    it to a program. A report is true where the check passed.

    Attributes:
        manual: Name of the function under test.
        reference: Name of what it was compared with.
        call: The example call, in one line.
        seed: That everything was drawn from.
        agreement: For each output and gradient of the example call, the largest difference over
            the largest element, and in units of the last place.
        probes: The results, in the order in which the probes ran.
        note: What else there is to know about the comparison.
    """

    manual: str
    reference: str
    call: str
    seed: int
    probes: tuple[ProbeResult, ...]
    agreement: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.failures

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Everything that was found, the most basic first."""
        return tuple(failure for probe in self.probes for failure in probe.failures)

    @property
    def seconds(self) -> float:
        """How long the probes took together."""
        return sum(probe.seconds for probe in self.probes)

    def __bool__(self) -> bool:
        return self.passed

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "manual": self.manual,
            "autograd": self.reference,
            "call": self.call,
            "seed": self.seed,
            "note": self.note,
            "passed": self.passed,
            "seconds": round(self.seconds, 4),
            "agreement": {
                name: {"relative_error": relative, "ulps": ulps}
                for name, (relative, ulps) in self.agreement.items()
            },
            "probes": [probe.to_dict() for probe in self.probes],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    def text(self, width: int = 100) -> str:
        """The report as plain text."""
        from manual_bp.conformance.render import render

        return render(self, width=width, colour=False)

    def __str__(self) -> str:
        from manual_bp.conformance.render import render

        return render(self, colour=sys.stdout.isatty())
