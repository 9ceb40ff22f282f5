"""Pages that are generated when the documentation is built: nothing in them is typed twice.

``reference/`` has a page for each file of layers and operations, ``lessons/`` one for each lesson,
computed there and then, and ``studies/`` one for each study.
"""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments import catalog
from manual_bp.explain.lessons import LESSONS
from manual_bp.explain.views import render
from manual_bp.layers import SPECS
from manual_bp.spec import Spec

GENERATED = ("reference", "lessons", "studies")
FAMILIES = {"layers": "Layers", "ops": "Operations between layers"}


def write(folder: str | Path) -> None:
    """Write all pages under ``folder``; what an earlier build left is removed."""
    for name in GENERATED:
        shutil.rmtree(Path(folder) / name, ignore_errors=True)
        (Path(folder) / name).mkdir()
    _reference(Path(folder) / "reference")
    _lessons(Path(folder) / "lessons")
    _studies(Path(folder) / "studies")


def _index(folder: Path, title: str, text: str, pages: Iterable[str]) -> None:
    entries = "\n".join(pages)
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```"
    (folder / "index.md").write_text(f"# {title}\n\n{text}\n\n{toctree}\n", encoding="utf-8")


def _reference(folder: Path) -> None:
    files: dict[str, list[Spec]] = {}
    for spec in SPECS:
        files.setdefault(spec.file, []).append(spec)
    for family in FAMILIES:
        (folder / family).mkdir()
    for file, specs in files.items():
        path = Path(file)
        page = folder / path.parent.name / f"{path.stem}.rst"
        page.write_text(_reference_page(path, specs), encoding="utf-8")
    for family, title in FAMILIES.items():
        pages = sorted(path.stem for path in (folder / family).glob("*.rst"))
        _index(folder / family, title, "A file each, from its mathematics to its code.", pages)
    _index(
        folder,
        "Reference",
        "Everything with a gradient by hand, and the faces that use it.",
        ["faces", *(f"{family}/index" for family in FAMILIES)],
    )
    (folder / "faces.rst").write_text(_faces(), encoding="utf-8")


def _reference_page(path: Path, specs: list[Spec]) -> str:
    name = ".".join(path.with_suffix("").parts)
    title = path.stem
    parts = [title, "=" * len(title), "", inspect.getdoc(importlib.import_module(name)) or "", ""]
    parts += [".. list-table::", "   :header-rows: 1", "", "   * - name", "     - forward"]
    parts += ["     - backward, by hand", "     - modules"]
    for spec in specs:
        modules = ", ".join(module.__name__ for module in spec.modules)
        parts += [f"   * - ``{spec.name}``", f"     - ``{spec.formula}``"]
        parts += [f"     - ``{spec.gradient}``", f"     - {modules}"]
    parts += ["", "The file", "--------", ""]
    above = "/".join([".."] * 3)
    parts += [f".. literalinclude:: {above}/{path.as_posix()}", "   :language: python", ""]
    return "\n".join(parts)


def _faces() -> str:
    title = "The public names"
    lines = [title, "=" * len(title), ""]
    for name in ("by_hand.by_hand", "by_hand.register", "audit.audit"):
        module, _, member = name.rpartition(".")
        kind = "autofunction" if member == "audit" else "autoclass"
        lines += [f".. {kind}:: manual_bp.{module}.{member}", ""]
    for module, member in (
        ("conformance", "check"),
        ("conformance", "assert_equivalent"),
        ("explain.step", "explain"),
        ("explain.diagnose", "diagnose"),
    ):
        lines += [f".. autofunction:: manual_bp.{module}.{member}", ""]
    lines += [".. autoclass:: manual_bp.function.Function", ""]
    for rule in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW"):
        lines += [f".. autoclass:: manual_bp.optim.{rule}", ""]
    return "\n".join(lines)


def _lessons(folder: Path) -> None:
    for name, lesson in LESSONS.items():
        page = render(lesson.explain(), "markdown")
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
    _index(
        folder,
        "Lessons",
        "Each asks a question first, and answers it with numbers that were computed while this "
        "page was built. In a terminal, or as a page that one can step through: "
        "`python -m manual_bp explain NAME --out NAME.html`.",
        LESSONS,
    )


def _studies(folder: Path) -> None:
    home = Path(__file__).parent
    known = json.loads((home / "findings.json").read_text(encoding="utf-8"))
    for name in catalog.names():
        study, found = catalog.load(name), known.get(name)
        lines = [f"# {name}", "", study.question, ""]
        if (home / "figures" / f"{name}.svg").is_file():
            lines += [f"![{study.question}](../figures/{name}.svg)", ""]
        for prediction in study.predictions:
            lines += [f"**{prediction.claim}** ({prediction.source})", ""]
            lines += [f"Refuted if {prediction.refuted_if}.", ""]
            lines += [
                f"Measured: {verdict['measured']}. Verdict: **{verdict['verdict']}**.\n"
                for verdict in (found or {}).get("verdicts", ())
                if verdict["claim"] == prediction.claim
            ]
        if found:
            lines += [f"## {found['title']}", "", *_table(found["columns"], found["rows"]), ""]
            lines += [found["note"], "", found["agreement"], ""]
        for kind in ("scientific", "nuisance", "fixed"):
            if entries := getattr(study, kind):
                lines += [f"## {kind.capitalize()}", ""]
                lines += [f"- *{key}*: {value}" for key, value in entries.items()]
                lines += [""]
        lines += [f"*Metric:* {study.metric}", "", f"*Seeds:* {study.seeds}", ""]
        lines += ["```sh", f"python -m experiments run {name}", "```", ""]
        (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    _index(
        folder,
        "Studies",
        "A question each, with what would refute the textbook's answer said beforehand.",
        catalog.names(),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
