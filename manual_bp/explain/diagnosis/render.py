"""The diagnosis as text, plain or in colour."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator

from manual_bp.explain.diagnosis.finding import Diagnosis, Finding
from manual_bp.wording import counted

__all__ = ["render"]

_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}

# A line is a list of pieces: text and the style of the text.
Piece = tuple[str, str]


def render(diagnosis: Diagnosis, width: int | None = None, colour: bool = False) -> str:
    """Verdict, then each finding with its numbers and cures.

    Args:
        diagnosis: What to show.
        width: Characters a line; that of the terminal, or 100, by default.
        colour: Whether to use ANSI colours.
    """
    if width is None:
        width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    lines = list(_head(diagnosis))
    for at, finding in enumerate(diagnosis.findings, 1):
        lines += [[], *_finding(at, finding, width)]
    if not colour:
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)
    return _coloured(lines, width)


def _coloured(lines: list[list[Piece]], width: int) -> str:
    import io

    from rich.console import Console
    from rich.text import Text

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)
    return stream.getvalue().rstrip("\n")


def _head(diagnosis: Diagnosis) -> Iterator[list[Piece]]:
    count = len(diagnosis.findings)
    verdict = counted(count, "finding") if count else "nothing found"
    yield [(f"{diagnosis.model}: ", "bold"), (verdict, "bold" if count else "bold green")]
    yield [
        (
            f"  loss {diagnosis.loss:.4g}, {counted(diagnosis.calls, 'operation')}, "
            + counted(diagnosis.parameters, "parameter", ","),
            "dim",
        )
    ]


def _finding(at: int, finding: Finding, width: int) -> Iterator[list[Piece]]:
    yield [
        (f"{at}. {finding.title}", _STYLES[finding.severity]),
        (f"  ({finding.severity})", "dim"),
    ]
    for part in textwrap.wrap(finding.text, max(30, width - 3)):
        yield [(f"   {part}", "")]
    if finding.formula:
        yield from _field("formula", finding.formula, width)
    for summary in finding.tensors:
        yield from _field("with", str(summary), width)
    yield from _field("cure", finding.cure, width, "green")
    yield from _field("source", finding.source, width, "dim")


def _field(label: str, text: str, width: int, style: str = "") -> Iterator[list[Piece]]:
    indent = " " * 12
    for at, part in enumerate(textwrap.wrap(text, max(30, width - len(indent)))):
        yield [(f"   {label:<9}" if at == 0 else indent, "dim"), (part, style)]
