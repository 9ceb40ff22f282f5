"""What a probe is: a name, what it finds, and the cases it tries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from manual_bp.conformance.bench import Bench
from manual_bp.conformance.call import Call
from manual_bp.conformance.judge import judge
from manual_bp.conformance.report import Problem
from manual_bp.conformance.results import Terms

__all__ = ["Case", "Probe", "case", "probe"]

Judge = Callable[[Bench, Call], list[Problem]]


@dataclass(frozen=True)
class Case:
    """One call and how it is judged.

    Attributes:
        label: What is special about it.
        call: The arguments.
        judge: Says what is wrong with it; may raise ``LeftOut``.
        hint: What a problem usually means that this case finds.
        shrinks: Whether a smaller call may stand for it in the report.
    """

    label: str
    call: Call
    judge: Judge
    hint: str = ""
    shrinks: bool = True


@dataclass(frozen=True)
class Probe:
    """A named family of cases.

    Attributes:
        name: As ``probes=`` and ``skip=`` know it.
        finds: The first line of its docstring.
        cases: Yields the cases.
        optional: Whether it runs only when asked for by name.
    """

    name: str
    finds: str
    cases: Callable[[Bench], Iterator[Case]]
    optional: bool = field(default=False)


def probe(
    name: str, *, optional: bool = False
) -> Callable[[Callable[[Bench], Iterator[Case]]], Probe]:
    """Make a probe of a generator of cases; its docstring says what it finds."""

    def wrap(cases: Callable[[Bench], Iterator[Case]]) -> Probe:
        finds = (cases.__doc__ or "").strip().splitlines()[0].rstrip(".")
        return Probe(name, finds, cases, optional)

    return wrap


def case(label: str, call: Call, hint: str = "", **terms: object) -> Case:
    """A case that is judged on outputs, gradients and what was modified."""
    return Case(label, call, partial(_judge, terms=Terms(**terms)), hint)  # type: ignore[arg-type]


def _judge(bench: Bench, call: Call, terms: Terms) -> list[Problem]:
    return judge(bench, call, terms)
