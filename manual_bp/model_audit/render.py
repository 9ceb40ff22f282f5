"""The comparison of a model as tables: drawn in a terminal, plain in a pipe, JSON for a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manual_bp.wording import counted

if TYPE_CHECKING:
    from manual_bp.model_audit.compare import ModelAudit

__all__ = ["drawn", "plain", "to_dict"]

# Rows of the table of parameters, the worst ones, unless all are asked for.
SHOWN = 10


@dataclass(frozen=True)
class _Table:
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: frozenset[int]  # columns of numbers


def plain(audit: ModelAudit, every: bool = False) -> str:
    """The comparison as text.

    Args:
        audit: The comparison.
        every: Whether to show every parameter, not the worst ones alone.
    """
    lines: list[str] = []
    for part in _parts(audit, every):
        lines += _columns(part) if isinstance(part, _Table) else [part]
        lines.append("")
    return "\n".join(lines).rstrip()


def drawn(audit: ModelAudit, every: bool = False) -> None:
    """Print the comparison in a terminal; arguments as for :func:`plain`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for part in _parts(audit, every):
        if isinstance(part, str):
            wrong = not audit.agrees and part.startswith(("first", "by hand the"))
            console.print(Text(part, style="red" if wrong else ""))
            continue
        table = Table(box=box.SIMPLE_HEAD)
        for i, name in enumerate(part.head):
            number = i in part.right
            table.add_column(name, justify="right" if number else "left", no_wrap=number)
        for row in part.rows:
            table.add_row(*map(Text, row))
        console.print(table)


def to_dict(audit: ModelAudit) -> dict[str, Any]:
    """The comparison, ready for JSON; an error that is not finite is null."""
    return {
        "agrees": audit.agrees,
        "all_by_hand": audit.report.all_by_hand,
        "operations": [
            {
                "name": name,
                "count": count,
                "by_hand": kind == "by hand",
                "file": audit.files.get(name),
                "places": [
                    {"module": p.module, "call": p.call, "source": p.source, "count": n}
                    for p, n in sorted(audit.report.places.get(name, {}).items())
                ],
            }
            for name, count, kind in _operations(audit)
        ],
        "parameters": [
            {"name": p.name, "shape": list(p.shape), "norm": p.norm, "error": _number(p.error)}
            for p in audit.parameters
        ],
        "calls": len(audit.calls),
        "differing": [
            {
                "name": call.name,
                "manual": call.manual,
                "module": call.place.module,
                "call": call.place.call,
                "source": call.place.source,
                "shapes": [list(shape) for shape in call.shapes],
                "gradient_error": _number(call.gradient_error),
                "output_error": _number(call.output_error),
                "raised": call.trouble or None,
            }
            for call in audit.differing
        ],
        "failure": audit.failure or None,
    }


def _number(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _parts(audit: ModelAudit, every: bool) -> list[_Table | str]:
    rows = [
        (name, str(count), kind, audit.files.get(name, ""))
        for name, count, kind in _operations(audit)
    ]
    total, manual = sum(int(row[1]) for row in rows), audit.report.by_hand.total()
    parts: list[_Table | str] = []
    if rows:
        parts.append(_Table(("operation", "count", "backward", "file"), rows, frozenset({1})))
        parts.append(f"{manual} of {counted(total, 'operation')} by hand")
    parts += _left(audit)
    if audit.reference_by_hand:
        parts.append(
            "by hand in the reference too, as the model itself calls them, and so not compared: "
            + ", ".join(audit.reference_by_hand)
        )
    if audit.failure:
        parts.append(f"by hand the step fails: {audit.failure}")
    else:
        parts += _parameters(audit, every)
    return [*parts, _verdict(audit)]


def _operations(audit: ModelAudit) -> list[tuple[str, int, str]]:
    left = [(n, c, "autograd") for n, c in sorted(audit.report.autograd.items())]
    return left + [(n, c, "by hand") for n, c in sorted(audit.report.by_hand.items())]


def _left(audit: ModelAudit) -> list[_Table | str]:
    """Where in the model it is that autograd is left something."""
    rows = [
        (name, place.module, place.call, place.source, str(count))
        for name in sorted(audit.report.autograd)
        for place, count in sorted(audit.report.places.get(name, {}).items())
    ]
    head = ("left to autograd", "in", "call", "at", "count")
    return [_Table(head, rows, frozenset({4}))] if rows else []


def _parameters(audit: ModelAudit, every: bool) -> list[_Table | str]:
    worst = sorted(audit.parameters, key=lambda p: -p.error)
    shown = audit.parameters if every else worst[:SHOWN]
    rows = [
        (
            p.name,
            "x".join(map(str, p.shape)) or "1",
            "none" if p.norm is None else f"{p.norm:.2e}",
            f"{p.error:.1e}",
        )
        for p in shown
    ]
    table = _Table(("gradient of", "shape", "norm", "error"), rows, frozenset({2, 3}))
    hidden = len(audit.parameters) - len(rows)
    right = len(audit.parameters) - len(audit.wrong)
    total = len(audit.parameters)
    line = f"{right} of {counted(total, 'gradient')} {'is' if total == 1 else 'are'} autograd's"
    line += f", largest relative error {worst[0].error:.1e}" if worst else ""
    if hidden:
        line += f"; {hidden} with a smaller error are not shown (--all)"
    return [table, line]


def _verdict(audit: ModelAudit) -> str:
    count = len(audit.calls)
    if not audit.differing:
        if audit.wrong:
            none = "not the one call" if count == 1 else f"none of the {count} calls"
            return (
                f"first operation whose gradient differs: {none} by itself; what differs is how "
                "they are put together (a value modified in place, an autograd.Function of the "
                "model)"
            )
        each = "the one call" if count == 1 else f"each of the {count} calls"
        return f"{each} by hand hands back the gradient that autograd's does"
    first, *rest = audit.differing
    shapes = ", ".join("x".join(map(str, shape)) or "1" for shape in first.shapes)
    lines = [
        f"first operation whose gradient differs, on the way back from the loss: {first.name}",
        f"  where     {first.place}",
        f"  by hand   {first.manual}",
        f"  given     {shapes}",
    ]
    if first.trouble:
        lines.append(f"  raised    {first.trouble}")
    else:
        lines.append(f"  gradient  relative error {first.gradient_error:.1e}, for the same dL/dy")
        lines.append(f"  output    relative error {first.output_error:.1e}")
    if rest:
        names = sorted({call.name for call in rest})
        lines.append(
            f"{len(rest)} more of {count} calls {'differs' if len(rest) == 1 else 'differ'}: "
            + ", ".join(f"{name} ({sum(c.name == name for c in rest)})" for name in names)
        )
    return "\n".join(lines)


def _columns(table: _Table) -> list[str]:
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            c.rjust(w) if i in table.right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
