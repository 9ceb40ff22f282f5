"""docs/layers.md says of every layer what its spec says: `python -m benchmarks.tables --errors`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.tables import layer_row
from manual_bp import listing
from manual_bp.layers import SPECS
from manual_bp.spec import Spec

PAGE = (Path(__file__).parents[1] / "docs" / "layers.md").read_text(encoding="utf-8")


def _rows() -> dict[str, list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| [`")]
    rows = [re.split(r" (?<!\\)\| ", line.removeprefix("| ").removesuffix(" |")) for line in lines]
    return {row[0]: [cell.replace("\\|", "|") for cell in row] for row in rows}


ROWS = _rows()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_page_says_what_the_spec_says(spec: Spec) -> None:
    expected = list(layer_row(spec))
    row = ROWS.get(expected[0])
    assert row is not None, "not on the page: run `python -m benchmarks.tables --errors`"
    assert row[: len(expected)] == expected
    assert len(row) == len(expected) + len(listing.ERRORS)


def test_the_page_has_nothing_else() -> None:
    assert len(ROWS) == len(SPECS)
    assert f"{len(SPECS)} gradients by hand" in PAGE


def test_errors_are_measured_and_bounded() -> None:
    """What the page shows is not a constant: a layer that is wrong shows it."""
    from dataclasses import replace

    spec = next(spec for spec in SPECS if spec.name == "tanh")
    right = listing.errors(spec)
    wrong = listing.errors(replace(spec, manual=lambda x: 1.01 * spec.manual(x)))
    for name in listing.ERRORS:
        a, b = right[name], wrong[name]
        assert a is not None and b is not None
        assert a.manual < 0.005 < b.manual
        assert a.native == b.native
