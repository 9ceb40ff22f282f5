"""The code of the documentation runs, and prints what the page says it prints.

A block that is followed by a block of ``text`` prints exactly that. The blocks of a page share
their names, as if typed one after the other; a comment ``<!-- setup ... -->`` holds what a reader
has from elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[lg]*/*.md")]
)

BLOCK = re.compile(
    r"<!-- setup\n(?P<setup>.*?)-->|^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)


def blocks(page: str) -> list[tuple[str, str | None]]:
    """Pairs of Python code and what it has to print (None: anything)."""
    found: list[tuple[str, str | None]] = []
    end = -1
    for match in BLOCK.finditer(page):
        if match["setup"] or match["language"] == "python":
            found.append((match["setup"] or match["body"], None))
        elif match["language"] == "text" and found and not page[end : match.start()].strip():
            found[-1] = found[-1][0], match["body"]
        end = match.end()
    return found


# lightning 2.6 with torch 2.13
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": path.stem}
    for code, expected in blocks(path.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(path), "exec"), names)
        if expected is not None:
            assert printed.getvalue() == expected, code


def test_a_wrong_output_would_be_seen() -> None:
    assert blocks("```python\nprint(1)\n```\n\n```text\n2\n```\n") == [("print(1)\n", "2\n")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "docs", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert "<math" in (tmp_path / "learn" / "layer.html").read_text(encoding="utf-8")
