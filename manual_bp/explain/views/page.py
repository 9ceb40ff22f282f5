"""One page for a browser: the network as a graph, and the step to walk through, number by number.

The page is one file. It asks the network for nothing: numbers, formulas (MathML, which browsers
set by themselves), drawing and stepping are inside.
"""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from manual_bp.explain.explanation import Explanation, Table
from manual_bp.explain.operation import Operation
from manual_bp.explain.views.as_json import to_dict
from manual_bp.explain.views.mathml import mathml
from manual_bp.explain.views.numbers import agreement, number
from manual_bp.explain.worked import worked, worked_update
from manual_bp.wording import counted

__all__ = ["render"]

SCRIPTS = ("data.js", "fold.js", "graph.js", "paint.js", "tensors.js", "panel.js", "walk.js")
"""In the order in which they stand on the page."""
FULL = 256
"""The largest number of elements of a tensor that the page holds; of others it has the range."""


def render(explanation: Explanation, precision: int = 4) -> str:
    """The step as one self-contained HTML page."""
    here = files("manual_bp.explain.views") / "page_files"

    def part(name: str) -> str:
        return (here / name).read_text(encoding="utf-8")

    return Template(part("page.html")).substitute(
        title=escape(explanation.title),
        css=part("page.css"),
        about=_about(explanation, precision),
        lesson=_question(explanation),
        answer=_answer(explanation),
        checked=_checked(explanation),
        data=_data(explanation, precision),
        js="\n".join(map(part, SCRIPTS)),
    )


def _about(e: Explanation, precision: int) -> str:
    loss = number(float(e.loss), precision)
    by = f", updated by <code>{escape(e.optimizer)}</code>" if e.optimizer else ""
    return (
        f"One learning step of <code>{escape(e.model)}</code>: "
        f"{counted(len(e.operations), 'operation')} forward to a loss of <b>{loss}</b>, and "
        f"backward to {counted(len(e.updates), 'parameter')}{by}."
    )


def _checked(e: Explanation) -> str:
    if e.error is None:
        return ""
    reached = [o for o in e.operations if o.reached]
    by_hand = sum(o.by_hand for o in reached)
    who = "All gradients" if by_hand == len(reached) else f"{by_hand} of {len(reached)} gradients"
    return (
        f"{who} were computed by hand-written backprop, and compared with PyTorch's autograd: "
        f"largest relative error {agreement(e.error)} in {e.dtype}."
    )


def _question(e: Explanation) -> str:
    notes = "".join(f'<p class="question">{_prose(note)}</p>' for note in e.notes)
    if not e.question:
        return notes
    asked = f"<strong>Before you step: what do you expect?</strong>{_prose(e.question)}"
    return f'{notes}<p class="question">{asked}</p>'


def _answer(e: Explanation) -> str:
    if not e.answer:
        return ""
    parts = "".join(_table(a) if isinstance(a, Table) else f"<p>{_prose(a)}</p>" for a in e.answer)
    return f'<details class="answer"><summary>What the numbers say</summary>{parts}</details>'


def _prose(text: str) -> str:
    """A paragraph: ``*emphasis*`` and ``code`` between backquotes."""
    out = []
    for i, piece in enumerate(text.split("`")):
        if i % 2:
            out.append(f"<code>{escape(piece)}</code>")
        else:
            parts = escape(piece).split("*")
            out.append("".join(f"<em>{p}</em>" if j % 2 else p for j, p in enumerate(parts)))
    return "".join(out)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="scroll"><table class="list">{caption}<tr>{head}</tr>{rows}</table></div>'


def _data(e: Explanation, precision: int) -> str:
    """What the script reads: the JSON view, and the formulas set."""
    step = to_dict(e, FULL, digits=9)
    step["precision"] = precision
    made = {id(s.value): (o.index, k) for o in e.operations for k, s in enumerate(o.outputs)}
    for told, operation in zip(step["operations"], e.operations, strict=True):
        told["math"] = _formulas(operation, precision)
        for told_symbol, symbol in zip(told["inputs"], operation.inputs, strict=True):
            if (same := made.get(id(symbol.value))) is not None:  # once is enough
                told_symbol["value"] = {"same": same}
    for told, update in zip(step["updates"], e.updates, strict=True):
        told["math"] = mathml(update.rule) if update.rule else ""
        told["numbers_math"] = mathml(
            ",  ".join(f"{name} = {number(v, precision)}" for name, v in update.numbers.items())
        )
        line = worked_update(update, precision)
        told["line"] = mathml(line) if line else ""
    del step["answer"]
    written = json.dumps(step, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # What could end the script element that holds it, or change how it is read.
    return written.replace("</", "<\\/").replace("<!", "\\u003c!").replace("<s", "\\u003cs")


def _formulas(o: Operation, precision: int) -> dict[str, Any]:
    lines = worked(o, precision)
    names = {s.name for s in o.symbols} | {
        f"d{s.name}" for s in o.symbols if s.gradient is not None
    }
    names |= {f"∂{o.outputs[0].name}/∂{s.name}" for s in o.inputs if s.slope is not None}
    return {
        "formula": mathml(o.formula) if o.formula else "",
        "rule": mathml(o.rule) if o.rule else "",
        "forward": [mathml(line) for line in lines.forward],
        "backward": [mathml(line) for line in lines.backward],
        "places": lines.places,
        "symbols": {name: _symbol(name) for name in sorted(names)},
    }


def _symbol(name: str) -> str:
    """A letter of a formula as mathematics; a name that is a word as it is: running_mean."""
    is_letter = re.fullmatch(r"(?:[∂\w]+/)?[d∂]?(?:[A-Za-z]\d*|[A-Za-z]+)'?(?:_\w)?", name)
    return mathml(name) if is_letter else f"<code>{escape(name)}</code>"
