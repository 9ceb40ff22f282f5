"""`python -m manual_bp list`: what the specs say, and errors measured on the spot."""

from __future__ import annotations

import json

import pytest

from manual_bp.__main__ import main
from manual_bp.layers import SPECS


def test_every_gradient_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [spec.name for spec in SPECS]
    assert lines[0].split()[-4:] == ["2nd", "vmap", "compile", "file"]
    assert lines[-1].startswith(f"{len(SPECS)} gradients by hand")


def test_errors_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "gelu", "dropout", "--errors", "--json"]) == 0
    gelu, dropout = json.loads(capsys.readouterr().out)
    errors = gelu["errors"]
    assert errors["float64"]["by_hand"] < 1e-14 and errors["float64"]["autograd"] == 0
    assert 0 < errors["float32"]["by_hand"] < 1e-6 < errors["bfloat16"]["by_hand"] < 1e-2
    assert dropout["errors"]["float32"] is None  # other random numbers than in float64
    assert main(["list", "gelu", "--errors"]) == 0
    head, row, _ = capsys.readouterr().out.splitlines()
    assert head.split()[-3:] == ["float64", "float32", "bfloat16"]
    assert row.count(" / ") == 2


def test_an_unknown_name_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "gellu"]) == 2
    assert "did you mean 'gelu'" in capsys.readouterr().err
    assert main(["list", "nonsense"]) == 2  # hundreds of names would be no help
    assert capsys.readouterr().err.endswith("`python -m manual_bp list` shows all\n")
