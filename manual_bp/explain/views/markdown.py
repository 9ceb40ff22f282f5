"""Markdown with LaTeX, as GitHub, Jupyter and MyST render it."""

from __future__ import annotations

from collections.abc import Iterator

from manual_bp.explain.explanation import Explanation, Table, Update
from manual_bp.explain.fold import Group, folded
from manual_bp.explain.operation import Operation, Symbol
from manual_bp.explain.views.latex import latex
from manual_bp.explain.views.numbers import abridged, agreement, number, shape, share
from manual_bp.explain.worked import worked, worked_update

__all__ = ["render"]

PIECES = 60
"""How many operations and folded modules are listed at most."""


def render(explanation: Explanation, precision: int = 4) -> str:
    """The step as one document: forward, backward, update."""
    return "\n".join(_document(explanation, precision)).rstrip() + "\n"


def _document(e: Explanation, precision: int) -> Iterator[str]:
    yield f"# {e.title}\n"
    loss = number(float(e.loss), precision)
    yield f"One learning step of `{e.model}` in {e.dtype}; the loss is **{loss}**."
    if e.error is not None:
        yield f"Largest relative error against autograd: {agreement(e.error)}."
    yield from (f"\n> {note}" for note in e.notes)
    if e.question:
        yield f"\n**{e.question}**"
    pieces = folded(e, PIECES)
    yield "\n## Forward\n"
    for piece in pieces:
        if isinstance(piece, Group):
            yield from _group(piece)
        else:
            yield from _operation(piece, piece.formula, worked(piece, precision).forward)
            yield from _table(piece.symbols, precision, gradients=False)
    yield "\n## Backward\n"
    yield "$\\mathrm{d}x$ is short for $\\partial L/\\partial x$: how the loss changes with $x$.\n"
    for piece in reversed(pieces):
        if isinstance(piece, Group):
            yield from _group(piece)
        elif piece.reached:
            yield from _operation(piece, piece.rule, worked(piece, precision).backward)
            yield from _table([*piece.outputs, *piece.inputs], precision, gradients=True)
    if e.updates:
        yield "\n## Update" + (f" by {e.optimizer}\n" if e.optimizer else "\n")
        yield from _updates(e.updates, precision)
    if e.answer:
        yield "\n## What the numbers say\n"
        for part in e.answer:
            yield from _table_of(part) if isinstance(part, Table) else [f"{part}\n"]


def _table_of(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"{table.caption}\n"
    yield f"| {' | '.join(table.head)} |"
    yield "| --- " * len(table.head) + "|"
    yield from (f"| {' | '.join(row)} |" for row in table.rows)
    yield ""


def _group(group: Group) -> Iterator[str]:
    first, last = group.operations[0].index, group.operations[-1].index
    yield f"\n### {first} to {last} `{group.path}` {group.kind}\n"
    yield f"{len(group.operations)} operations; `--only {group.path}` unfolds them."


def _operation(o: Operation, formula: str, lines: list[str]) -> Iterator[str]:
    where = f"`{o.module}` " if o.module else ""
    yield f"\n### {o.index} {where}{o.name}\n"
    if formula:
        yield f"$$ {latex(formula)} $$\n"
    yield from (f"$$ {latex(line)} $$\n" for line in lines)
    if o.dead:
        yield f"{share(o.dead)} of the elements are dead: their slope is 0.\n"
    if o.saturated:
        yield f"{share(o.saturated)} of the elements are saturated: their slope is below 0.01.\n"


def _table(symbols: list[Symbol], precision: int, gradients: bool) -> Iterator[str]:
    yield "| | shape | numbers |" + (" relative error |" if gradients else "")
    yield "| --- | --- | --- |" + (" --- |" if gradients else "")
    for s in symbols:
        tensor = s.gradient if gradients else s.value
        if tensor is None:
            continue
        name = latex(f"d{s.name}" if gradients else s.name)
        whose = f" `{s.parameter}`" if s.parameter else ""
        row = f"| ${name}${whose} | {shape(tensor)} | {abridged(tensor, precision)} |"
        yield row + (f" {'' if s.error is None else f'{s.error:.1e}'} |" if gradients else "")


def _updates(updates: list[Update], precision: int) -> Iterator[str]:
    rules: dict[str, None] = {}
    for u in updates:
        numbers = ",  ".join(f"{n} = {number(v, precision)}" for n, v in u.numbers.items())
        rules[f"{u.rule},  {numbers}" if u.rule and numbers else u.rule or numbers] = None
    yield from (f"$$ {latex(rule)} $$\n" for rule in rules if rule)
    yield "| parameter | before | gradient | after | one number |"
    yield "| --- | --- | --- | --- | --- |"
    for u in updates:
        cells = [
            "" if tensor is None else abridged(tensor, precision)
            for tensor in (u.before, u.gradient, u.after)
        ]
        line = worked_update(u, precision)
        yield f"| `{u.name}` | {' | '.join(cells)} | {f'${latex(line)}$' if line else ''} |"
