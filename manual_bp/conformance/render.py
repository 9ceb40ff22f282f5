"""The report as text, plain or in colour."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from manual_bp.conformance.compare import Mismatch
from manual_bp.conformance.report import (
    FAILED,
    LEFT_OUT,
    NOT_RUN,
    NOTHING,
    PASSED,
    Failure,
    ProbeResult,
    Report,
)
from manual_bp.wording import counted

__all__ = ["render"]

# Whoever has understood the first few knows where to look.
_DETAILED = 4
_STYLES = {PASSED: "green", FAILED: "bold red", LEFT_OUT: "dim", NOT_RUN: "dim"}

# A line is a list of pieces: text and the style of the text.
Piece = tuple[str, str]


def render(report: Report, width: int | None = None, colour: bool = False) -> str:
    """The report: verdict, table of probes, details of what failed.

    Args:
        report: What to show.
        width: Characters a line; that of the terminal, or 100, by default.
        colour: Whether to use ANSI colours.
    """
    width = width or _terminal_width()
    lines = [*_head(report), *_table(report, width), *_details(report, width), *_foot(report)]
    if not colour:
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
    return _coloured(lines, width)


def _terminal_width() -> int:
    import shutil
    import sys

    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100


def _coloured(lines: list[list[Piece]], width: int) -> str:
    import io

    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)
    return stream.getvalue().rstrip("\n")


def _head(report: Report) -> Iterator[list[Piece]]:
    verdict, style = ("passed", "bold green") if report.passed else ("FAILED", "bold red")
    yield [(f"{report.manual} against {report.reference}: ", "bold"), (verdict, style)]
    yield [(f"  called with {report.call}", "")]
    if report.note:
        yield [(f"  {report.note}", "dim")]
    yield []


def _table(report: Report, width: int) -> Iterator[list[Piece]]:
    column = max((len(probe.name) for probe in report.probes), default=0)
    not_run = [probe for probe in report.probes if probe.status == NOT_RUN]
    nothing = [probe.name for probe in report.probes if probe.reasons == {NOTHING: 1}]
    for probe in report.probes:
        if probe.status == NOT_RUN or (probe.name in nothing and not probe.cases):
            continue
        start = f"  {probe.name:<{column}}  "
        note = _note(probe)
        room = max(20, width - len(start) - 10)
        if len(note) > room:
            note = note[: room - 3] + "..."
        yield [(start, ""), (f"{probe.status:<8}  ", _STYLES[probe.status]), (note, "dim")]
    if nothing:
        text = f"{NOTHING} for {', '.join(nothing)}"
        for part in textwrap.wrap(text, width - 2):
            yield [(f"  {part}", "dim")]
    if not_run:
        reason = next(iter(not_run[0].reasons))
        yield [(f"  {counted(len(not_run), 'more probe')} not run: {reason}", "dim")]


def _note(probe: ProbeResult) -> str:
    """Cases compared, and why others were left out."""
    parts = []
    if probe.cases:
        parts.append(counted(probe.cases, "case"))
    left_out = sum(probe.reasons.values())
    if probe.reasons:
        reason = max(probe.reasons, key=lambda text: probe.reasons[text])
        parts.append(f"{left_out} left out: {reason}" if probe.cases else reason)
    return ", ".join(parts)


def _details(report: Report, width: int) -> Iterator[list[Piece]]:
    for number, failure in enumerate(report.failures[:_DETAILED], 1):
        yield []
        yield from _failure(number, failure, width)
    more = report.failures[_DETAILED:]
    if more:
        yield []
        yield [(f"{len(more)} more, probably of the same cause:", "bold")]
        for failure in more:
            yield [
                (
                    f"  {failure.probe}: {failure.problem.subject} {failure.problem.text} "
                    f"({failure.case})",
                    "",
                )
            ]


def _failure(number: int, failure: Failure, width: int) -> Iterator[list[Piece]]:
    problem = failure.problem
    title = f"{number}. {problem.subject} {problem.text}"
    for k, part in enumerate(textwrap.wrap(title, width)):
        yield [(part if k == 0 else f"   {part}", "bold red")]
    yield from _field("found by", f"{failure.probe}: {failure.case}", width)
    yield from _field("call", failure.call, width)
    for name, numbers in failure.values.items():
        yield from _field(f"  {name}", numbers, width)
    mismatch = problem.mismatch
    if mismatch is not None:
        yield from _field("worst at", _worst(mismatch), width)
        yield from _field("error", _error(mismatch), width)
    for clue in failure.clues:
        yield from _field("clue", clue, width, "bold yellow")
    if problem.hint:
        yield from _field("look for", problem.hint, width)


def _worst(m: Mismatch) -> str:
    where = f"[{', '.join(map(str, m.index))}]: " if m.index else ""
    return f"{where}{_number(m.manual)} by hand, {_number(m.reference)} by autograd"


def _error(m: Mismatch) -> str:
    ulps = f", {m.ulps:.2g} ULPs" if math.isfinite(m.ulps) else ""
    share = f"{m.wrong} of {m.total} elements are wrong" if m.total > 1 else "the only element"
    return f"relative {m.relative:.2g}{ulps}; {share}"


def _number(value: complex | float) -> str:
    return f"{value:.10g}"


def _field(label: str, text: str, width: int, style: str = "") -> Iterator[list[Piece]]:
    indent = " " * 13
    for k, part in enumerate(textwrap.wrap(text, max(30, width - len(indent))) or [""]):
        yield [(f"   {label:<10}" if k == 0 else indent, "dim"), (part, style)]


def _foot(report: Report) -> Iterator[list[Piece]]:
    yield []
    cases = sum(probe.cases for probe in report.probes)
    if report.passed and report.agreement:
        relative = max(error for error, _ in report.agreement.values())
        ulps = max(places for _, places in report.agreement.values())
        reason = "the same bits" if relative == 0 else f"{ulps:.3g} ULPs, rounding in another order"
        yield [(f"  gradients of the example agree to {relative:.1e} ({reason})", "")]
    if report.passed:
        ran = sum(probe.status == PASSED for probe in report.probes)
        summary = f"passed: {counted(ran, 'probe')}, {counted(cases, 'case')}, nothing found"
    else:
        failed = sum(probe.status == FAILED for probe in report.probes)
        summary = f"FAILED: {failed} of {counted(len(report.probes), 'probe')}"
    style = "bold green" if report.passed else "bold red"
    yield [(f"  {summary}", style), (f" (seed {report.seed}, {report.seconds:.2f} s)", "dim")]
