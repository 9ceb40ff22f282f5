"""Sentences with numbers and names of classes in them."""

from __future__ import annotations

import pytest

from manual_bp.wording import article, counted


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1024, "1024 layers")]
)
def test_a_number_of_things(count: int, expected: str) -> None:
    assert counted(count, "layer") == expected


def test_a_number_in_a_form_of_its_own() -> None:
    assert counted(12345, "parameter", ",") == "12,345 parameters"
    assert counted(1, "sample", "3") == "  1 sample"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("int", "an"),
        ("str", "a"),
        ("Tensor", "a"),
        ("OrderedDict", "an"),
        ("LSTM", "an"),
        ("MLP", "an"),
        ("GRU", "a"),
        ("UNet", "a"),
        ("Linear", "a"),
    ],
)
def test_a_class_with_its_article(name: str, expected: str) -> None:
    assert article(name) == f"{expected} {name}"
