"""Writes what the documentation shows of the studies, from what ``make studies`` left in logs/.

``python -m benchmarks.studies`` replays the studies that were run in full and writes a figure of
each, docs/findings.json (which the pages of the studies are made from), docs/findings.md and the
README's table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import ROOT, markdown, put
from experiments import catalog, engine
from experiments.figures import style
from experiments.refusal import Refusal
from experiments.study import Figure, Findings, Options, counted

# The figure that stands for a study where that is not its first one.
FIGURES = {
    "initialization": "forward",
    "learning_rate": "edge",
    "optimizers": "loss",
}

FOUND = ROOT / "docs" / "findings.json"
PAGE = ROOT / "docs" / "findings.md"

INTRODUCTION = """Written by `python -m benchmarks.studies` from the full runs (`make studies`).
Each claim was stated with what would refute it before the runs, its thresholds on other seeds (the
first lines of a study say where that is not so); one that does not reproduce stands here too."""


def main() -> None:
    """Write all of it; what was not run keeps what an earlier run left."""
    known: dict[str, Any] = json.loads(FOUND.read_text("utf-8")) if FOUND.is_file() else {}
    for name in catalog.names():
        study = catalog.load(name)
        try:
            findings, current = engine.replay(study, Options(logs=ROOT / "logs"))
        except Refusal as refusal:
            print(f"{name}: {refusal}", file=sys.stderr)
            continue
        if not current:
            print(f"{name}: some of its results come from earlier code", file=sys.stderr)
        known[name] = record(findings)
        drawn = svg(next(f for f in findings.figures if f.name == FIGURES.get(name, f.name)))
        (ROOT / "docs" / "figures" / f"{name}.svg").write_text(drawn, encoding="utf-8")
    known = {name: known[name] for name in catalog.names() if name in known}
    FOUND.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(claims(known), encoding="utf-8")
    put(ROOT / "README.md", "studies", summary(known))


def record(findings: Findings) -> dict[str, Any]:
    """What is kept of a study's findings."""
    table = findings.tables[0]
    return {
        "verdicts": [
            {"claim": v.prediction.claim, "verdict": v.word, "measured": v.measured}
            for v in findings.verdicts
        ],
        "agreement": findings.agreement,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "note": table.note,
    }


def svg(figure: Figure) -> str:
    """A figure as a file of its own."""
    drawn = style.svg(figure.draw(), figure.name, figure.title)
    paper = (
        '<svg xmlns="http://www.w3.org/2000/svg" style="background:white;color:#222" width="640"'
    )
    return drawn.replace("<svg", paper, 1)


def summary(known: Mapping[str, Any]) -> str:
    """A row for each study: its question, and how many of its claims hold."""
    rows = []
    for name, found in known.items():
        words = counted(verdict["verdict"] for verdict in found["verdicts"])
        rows.append((f"`{name}`", catalog.question(name), words))
    return markdown(("study", "question", "claims"), rows)


def claims(known: Mapping[str, Any]) -> str:
    """A page with a row for each claim: what was measured, and the verdict."""
    parts = ["# What the studies found", INTRODUCTION]
    for name, found in known.items():
        rows = [(v["claim"], v["measured"], v["verdict"]) for v in found["verdicts"]]
        parts += [f"## {name}", catalog.question(name)]
        parts += [markdown(("claim", "measured", "verdict"), rows), found["agreement"]]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
