"""Writes what README.md and docs/layers.md show of the code: measured and copied, never typed.

``python -m benchmarks.tables`` runs every sample in float64 against autograd and times every
layer at two sizes; it takes some minutes. ``--text`` leaves the measurements as they are.
``make run`` comes first: the figure is taken from its report.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import manual_bp
from manual_bp.bench import time_spec
from manual_bp.layers import SPECS
from manual_bp.spec import Draw, Sample, Spec

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


def largest_error(spec: Spec) -> float:
    """Largest relative error of a gradient against autograd's in float64, over all samples."""
    return max(_error(spec, s) for s in spec.samples(Draw()))


def _error(spec: Spec, s: Sample) -> float:
    manual = _gradients(partial(spec.manual, **s.kwargs), s, spec.modifies)
    native = _gradients(partial(spec.native, **s.kwargs), s, spec.modifies)
    return max(
        (
            float((a - b).norm() / b.norm())
            for a, b in zip(manual, native, strict=True)
            if a is not None and b is not None and float(b.norm()) > 0
        ),
        default=0.0,
    )


def _gradients(f: Any, s: Sample, modifies: bool) -> tuple[Tensor | None, ...]:
    args = (s.args[0].clone(), *s.args[1:]) if modifies else s.args
    torch.manual_seed(0)
    result = f(*args)
    results = result if isinstance(result, tuple) else (result,)
    outputs = [y for y in results if isinstance(y, Tensor) and y.requires_grad]
    draw = Draw(7)
    wanted = [a for a in s.args if isinstance(a, Tensor) and a.requires_grad]
    cotangents = [draw.fixed(*y.shape) for y in outputs]
    return torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)


def row(spec: Spec) -> list[str]:
    """One line of the table."""
    costs = time_spec(spec, torch.float32, "cpu", rounds=5)
    ratios = " / ".join(f"{cost.ratio:.2f}" for cost in costs) or "-"
    memory = " / ".join(f"{cost.memory_ratio:.2f}" for cost in costs) or "-"
    return [
        f"[`{spec.name}`]({spec.file})",
        f"`{spec.formula}`",
        f"`{spec.gradient}`",
        f"{largest_error(spec):.0e}",
        ratios,
        memory,
    ]


HEAD = ("layer", "forward", "backward, by hand", "error", "time", "memory")


def markdown(rows: list[list[str]]) -> str:
    """Write rows as a Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
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


def first_figure() -> str | None:
    """The study's figure out of its report, as a file of its own; None before ``make run``."""
    report = ROOT / "logs" / "optimizers" / "report.html"
    if not report.is_file():
        return None
    page = report.read_text(encoding="utf-8")
    found = re.search(r'<svg [^>]*aria-label="The whole training".*?</svg>', page, re.DOTALL)
    if found is None:
        sys.exit(f"{report}: there is no figure called 'The whole training'")
    paper = (
        '<svg xmlns="http://www.w3.org/2000/svg" style="background:white;color:#222" width="640"'
    )
    return found[0].replace("<svg", paper, 1) + "\n"


def main() -> None:
    """Measure, and write both files."""
    figure = first_figure()
    if figure is not None:
        (ROOT / "docs" / "optimizers.svg").write_text(figure, encoding="utf-8")
    put(ROOT / "README.md", "check", fenced(first_check(), "text"))
    put(ROOT / "README.md", "layer", example_layer())
    if "--text" in sys.argv[1:]:
        return
    torch.set_num_threads(1)  # two threads wait for each other where anything else runs
    rows = {}
    for spec in sorted(SPECS, key=lambda spec: spec.name not in FIRST_PAGE):
        rows[spec.name] = row(spec)
        print(" ".join(rows[spec.name][i] for i in (0, 3, 4, 5)), flush=True)
        if len(rows) == len(FIRST_PAGE):
            put(ROOT / "README.md", "table", markdown([rows[name] for name in FIRST_PAGE]))
    deeper = [[cells[0].replace("](", "](../"), *cells[1:]] for cells in rows.values()]
    put(ROOT / "docs" / "layers.md", "table", markdown(deeper))


if __name__ == "__main__":
    main()
