"""Writes what README.md and docs/layers.md show of the code: measured and copied, never typed.

``python -m benchmarks.tables`` runs every sample against autograd, dtype by dtype, and times every
layer at two sizes; it takes some minutes. ``--errors`` leaves the times as they are and takes one
minute, ``--text`` leaves all measurements. For the studies there is :mod:`benchmarks.studies`.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

import manual_bp
from manual_bp import coverage, listing
from manual_bp.bench import time_spec
from manual_bp.layers import SPECS
from manual_bp.spec import Spec

ROOT = Path(__file__).parents[1]

# What the first page shows; docs/layers.md has them all.
FIRST_PAGE = (
    "linear",
    "relu",
    "gelu",
    "softmax",
    "cross_entropy",
    "batch_norm",
    "layer_norm",
    "dropout",
    "embedding",
    "conv2d",
    "max_pool2d",
    "add",
)

_SPEC = {spec.name: spec for spec in SPECS}


def times(spec: Spec) -> tuple[str, str]:
    """Time and memory by hand over autograd's, small / larger size."""
    costs = time_spec(spec, torch.float32, "cpu", rounds=5)
    ratios = " / ".join(f"{cost.ratio:.2f}" for cost in costs) or "-"
    memory = " / ".join(f"{cost.memory_ratio:.2f}" for cost in costs) or "-"
    return ratios, memory


def first_page_row(spec: Spec, costs: tuple[str, str]) -> Sequence[str]:
    """One line of the README's table."""
    error = listing.shown(listing.errors(spec))[0]
    return (*_formulas(spec, ""), error, *costs)


def _formulas(spec: Spec, root: str) -> tuple[str, str, str]:
    return f"[`{spec.name}`]({root}{spec.file})", f"`{spec.formula}`", f"`{spec.gradient}`"


FIRST_HEAD = ("layer", "forward", "backward, by hand", "error", "time", "memory")
HEAD = ("layer", "forward", "backward, by hand", "modules", "2nd", "vmap", "compile")


def layer_row(spec: Spec) -> tuple[str, ...]:
    """What docs/layers.md says of a layer, before its errors."""
    _, _, _, modules, *does, _ = listing.cells(spec)
    return (*_formulas(spec, "../"), modules, *does)


def errors_table() -> str:
    """Every layer with its errors, measured now."""
    rows = []
    for spec in SPECS:
        rows.append((*layer_row(spec), *listing.shown(listing.errors(spec))))
    modules = sum(len(spec.modules) for spec in SPECS)
    count = f"{len(SPECS)} gradients by hand, {modules} modules of `torch.nn`."
    return f"{markdown((*HEAD, *listing.ERRORS), rows)}\n\n{count}"


def left_table() -> str:
    """What PyTorch's registries and torch.nn hold that is not by hand."""
    entries = [*coverage.modules(), *coverage.operations()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the registries' samples take deprecated paths on purpose
        left = [(e.kind, e.name, why) for e, why in coverage.missing(iter(entries))]
    rows = [(f"`{name}`", why) for name, why in coverage.LEFT_OUT.items()]
    rows += [(f"`{name}`", f"left to autograd: {why}") for _, name, why in left]
    counts = []
    for kind in ("module", "functional", "operation"):
        total = sum(e.kind == kind for e in entries)
        counts.append(f"{total - sum(k == kind for k, *_ in left)} of {total} {kind}s")
    return f"Of PyTorch's registries by hand: {', '.join(counts)}.\n\n" + markdown(
        ("not by hand", "why"), rows
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in r) + " |" for r in lines)


def put(path: Path, mark: str, text: str) -> None:
    """Put ``text`` between the comments ``mark:begin`` and ``mark:end`` of a file."""
    marks = rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)"
    page = path.read_text(encoding="utf-8")
    if not re.search(marks, page, re.DOTALL):
        sys.exit(f"{path}: there is no <!-- {mark}:begin --> ... <!-- {mark}:end -->")
    page = re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
    path.write_text(page, encoding="utf-8")


def first_check() -> str:
    """What the two-line comparison of the README prints."""
    torch.manual_seed(0)
    x, w, b = (
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((8, 5), (5,), (5,))
    )
    manual, native = manual_bp.functional.layer_norm, torch.nn.functional.layer_norm
    return str(manual_bp.check(manual, native, x, [5], w, b)).strip()


def fenced(text: str, language: str) -> str:
    """A block of code in Markdown."""
    return f"```{language}\n{text.strip()}\n```"


def example_layer() -> str:
    """The layer that the README shows as a whole."""
    return fenced((ROOT / "manual_bp/layers/tanh.py").read_text(encoding="utf-8"), "python")


def main() -> None:
    """Measure, and write both files."""
    put(ROOT / "README.md", "check", fenced(first_check(), "text"))
    put(ROOT / "README.md", "layer", example_layer())
    if "--text" in sys.argv[1:]:
        return
    torch.set_num_threads(1)  # two threads wait for each other where anything else runs
    put(ROOT / "docs" / "layers.md", "table", errors_table())
    put(ROOT / "docs" / "layers.md", "left", left_table())
    if "--errors" in sys.argv[1:]:
        return
    costs = {}
    for spec in sorted(SPECS, key=lambda spec: spec.name not in FIRST_PAGE):
        costs[spec.name] = times(spec)
        print(spec.name, *costs[spec.name], flush=True)
        if len(costs) == len(FIRST_PAGE):
            first = [first_page_row(_SPEC[name], costs[name]) for name in FIRST_PAGE]
            put(ROOT / "README.md", "table", markdown(FIRST_HEAD, first))
    rows = [(f"`{spec.name}`", *costs[spec.name]) for spec in SPECS]
    put(ROOT / "docs" / "layers.md", "costs", markdown(("layer", "time", "memory"), rows))


if __name__ == "__main__":
    main()
