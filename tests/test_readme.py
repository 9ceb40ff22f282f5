"""The README shows what is there."""

from __future__ import annotations

import re

import pytest

from benchmarks.tables import FIRST_PAGE, ROOT, example_layer
from manual_bp.layers import SPECS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(mark: str) -> str:
    found = re.search(rf"<!-- {mark}:begin -->\n(.*?)\n?<!-- {mark}:end -->", README, re.DOTALL)
    assert found, mark
    return found[1]


def test_the_example_layer_is_the_real_one() -> None:
    assert _block("layer") == example_layer(), "run `python -m benchmarks.tables --text`"


def test_the_table_shows_real_layers() -> None:
    assert set(FIRST_PAGE) <= {spec.name for spec in SPECS}
    table = _block("table")
    for name in FIRST_PAGE:
        assert f"[`{name}`]" in table


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
