"""Writes the tables of README.md and docs/layers.md: measured, never typed.

``python -m benchmarks.tables`` runs every sample in float64 against autograd and times every
layer at two sizes; it takes a few minutes.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    return max(_error(spec, s, i) for i, s in enumerate(spec.samples(Draw())))


def _error(spec: Spec, s: Sample, i: int) -> float:
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
    costs = time_spec(spec, torch.float32, "cpu", rounds=9)
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


def replace_table(path: Path, table: str) -> None:
    """Put ``table`` between the two marks of a file."""
    marks = r"(<!-- table:begin -->\n).*?(<!-- table:end -->)"
    text = path.read_text(encoding="utf-8")
    if not re.search(marks, text, re.DOTALL):
        sys.exit(f"{path}: there is no <!-- table:begin --> ... <!-- table:end -->")
    path.write_text(
        re.sub(marks, lambda m: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    """Measure, and write both files."""
    rows = {}
    for spec in SPECS:
        rows[spec.name] = row(spec)
        print(" ".join(rows[spec.name][i] for i in (0, 3, 4, 5)), flush=True)
    replace_table(ROOT / "README.md", markdown([rows[name] for name in FIRST_PAGE]))
    deeper = [[cells[0].replace("](", "](../"), *cells[1:]] for cells in rows.values()]
    replace_table(ROOT / "docs" / "layers.md", markdown(deeper))


if __name__ == "__main__":
    main()
