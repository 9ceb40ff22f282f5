"""The step for a terminal: with colours by rich, plain in a pipe."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from torch import Tensor

from manual_bp.explain.explanation import Explanation, Table, Update
from manual_bp.explain.fold import Group, folded
from manual_bp.explain.operation import Operation, Symbol
from manual_bp.explain.views.numbers import abridged, agreement, number, share
from manual_bp.explain.worked import worked, worked_update

__all__ = ["print_to_terminal", "render", "text"]

PIECES = 40
"""How many operations and folded modules are listed at most."""
WIDTH = 88
"""Of a paragraph, in characters."""

Piece = tuple[str, str]  # text and the style it has in a terminal


def text(explanation: Explanation, precision: int = 4) -> str:
    """The step as plain text: forward, backward, update."""
    return "\n".join(
        "".join(t for t, _ in line).rstrip() for line in _lines(explanation, precision)
    )


def render(explanation: Explanation, precision: int = 4) -> str:
    """The same, ending in a line's end."""
    return text(explanation, precision) + "\n"


def print_to_terminal(explanation: Explanation, precision: int = 4) -> None:
    """Print it with colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in _lines(explanation, precision):
        console.print(Text.assemble(*line, no_wrap=False), soft_wrap=True)


def _lines(e: Explanation, precision: int) -> Iterator[list[Piece]]:
    yield [(e.title, "bold"), (f"  one learning step, {e.dtype}", "dim")]
    yield [("loss ", ""), (number(float(e.loss), precision), "bold")]
    if e.question:
        yield []
        yield from ([(line, "bold yellow")] for line in textwrap.wrap(e.question, WIDTH))
    pieces = folded(e, PIECES)
    yield from _heading("forward", "each operation, and what it makes")
    for piece in pieces:
        if isinstance(piece, Group):
            yield from _group(piece, piece.operations[-1].outputs, precision)
        else:
            yield from _forward(piece, precision)
    yield from _heading("backward", "dx is short for dL/dx: how the loss changes with x")
    sizes = [o.blame for o in e.operations if o.blame is not None and math.isfinite(o.blame)]
    largest = max(sizes, default=0.0)
    for piece in reversed(pieces):
        if isinstance(piece, Group):
            yield from _group(piece, [], precision, largest)
        elif piece.reached:
            yield from _backward(piece, precision, largest)
    if e.updates:
        by = f"by {e.optimizer}" if e.optimizer else "no optimizer was given: nothing moves"
        yield from _heading("update", by)
    for update in e.updates:
        yield from _update(update, precision)
    if e.answer:
        yield from _heading("what the numbers say", "")
    for part in e.answer:
        yield from _table(part) if isinstance(part, Table) else _paragraph(part)
    yield []
    yield from ([(note, "yellow")] for note in e.notes)
    if e.error is not None:
        yield [("largest relative error against autograd: ", ""), (f"{agreement(e.error)}", "bold")]


def _paragraph(part: str) -> Iterator[list[Piece]]:
    for line in textwrap.wrap(part, WIDTH - 2):
        yield [(f"  {line}", "")]
    yield []


def _table(table: Table) -> Iterator[list[Piece]]:
    columns = zip(table.head, *table.rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for i, row in enumerate((table.head, *table.rows)):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield [(f"    {'  '.join(cells)}", "" if i else "dim")]
    if table.caption:
        yield [(f"    {table.caption}", "dim")]
    yield []


def _heading(name: str, about: str) -> Iterator[list[Piece]]:
    yield []
    yield [(name, "bold cyan"), (f"  {about}", "dim")]


def _header(piece: Operation, formula: str) -> list[Piece]:
    where = f"{piece.module}  " if piece.module else ""
    return [
        (f"{piece.index:>4}  ", "dim"),
        (where, "bold"),
        (piece.name, "green"),
        (f"   {formula}", ""),
    ]


def _group(
    group: Group, outputs: list[Symbol], precision: int, largest: float | None = None
) -> Iterator[list[Piece]]:
    first, last = group.operations[0], group.operations[-1]
    count = len(group.operations)
    yield [
        (f"{first.index:>4}  ", "dim"),
        (f"{group.path}  ", "bold"),
        (group.kind, "green"),
        (
            f"   {count} operations, {first.index} to {last.index}; --only {group.path} unfolds",
            "dim",
        ),
    ]
    for s in outputs:
        yield from _tensor(s.name, "", s.value, precision)
    if largest is not None:
        blame = last.blame
        if blame is not None:
            yield [("        arrives ", "dim"), (_bar(blame, largest), "red")]


def _forward(o: Operation, precision: int) -> Iterator[list[Piece]]:
    yield _header(o, o.formula)
    for s in o.inputs:
        if s.producer is None:  # the others stand where they were made
            yield from _tensor(s.name, s.parameter or "", s.value, precision)
    for line in worked(o, precision).forward:
        yield [(f"        {line}", "")]
    for s in o.outputs:
        yield from _tensor(s.name, "", s.value, precision, style="bold")
    for line in _activation(o, precision):
        yield [(f"        {line}", "yellow")]
    if o.ends_gradient:
        yield [("        the gradient ends here: nothing behind it learns", "yellow")]


def _activation(o: Operation, precision: int) -> Iterator[str]:
    if o.dead:
        units = f", {share(o.dead_units)} of the units for every example" if o.dead_units else ""
        yield f"dead: {share(o.dead)} have slope 0{units}"
    if o.saturated:
        yield f"saturated: {share(o.saturated)} have a slope below 0.01"


def _backward(o: Operation, precision: int, largest: float) -> Iterator[list[Piece]]:
    yield _header(o, o.rule)
    if o.blame is not None:
        yield [("        arrives ", "dim"), (_bar(o.blame, largest), "red")]
    for s in o.outputs:
        if s.gradient is not None:
            yield from _tensor(f"d{s.name}", "", s.gradient, precision)
    for line in worked(o, precision).backward:
        yield [(f"        {line}", "")]
    for s in o.inputs:
        if s.gradient is not None:
            yield from _tensor(f"d{s.name}", s.parameter or "", s.gradient, precision, "bold")
    who = "" if o.by_hand else "the gradient is autograd's own; "
    if o.error is not None:
        yield [(f"        {who}relative error against autograd {agreement(o.error)}", "dim")]


def _bar(blame: float, largest: float) -> str:
    """The size of a gradient on a scale of powers of ten, the largest 12 long."""
    if not math.isfinite(blame):
        return "not finite"
    if blame == 0 or largest == 0:
        return "0"
    length = max(1, 12 + round(1.5 * math.log10(blame / largest)))
    return f"{'#' * length} norm {blame:.3g}"


def _tensor(
    name: str, whose: str, tensor: Tensor, precision: int, style: str = ""
) -> Iterator[list[Piece]]:
    shown = abridged(tensor, precision)
    yield [
        (f"        {name}", style),
        (f" ({whose})" if whose else "", "dim"),
        (f" = {shown}", ""),
    ]


def _numbers(u: Update, precision: int) -> str:
    return ", ".join(f"{name} = {number(v, precision)}" for name, v in u.numbers.items())


def _update(u: Update, precision: int) -> Iterator[list[Piece]]:
    yield [
        (f"      {u.name}", "bold"),
        ("" if u.wanted else "  frozen", "yellow"),
        (f"   {u.rule}   {_numbers(u, precision)}", ""),
    ]
    if u.gradient is None:
        reason = "no gradient reached it" if u.wanted else "it asks for no gradient"
        yield [(f"        stays: {reason}", "dim")]
        return
    yield from _tensor("before", "", u.before, precision)
    yield from _tensor("gradient", "", u.gradient, precision)
    if line := worked_update(u, precision):
        yield [(f"        {line}", "")]
    if u.after is not None:
        yield from _tensor("after", "", u.after, precision, style="bold")
