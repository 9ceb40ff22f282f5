"""Every wrong backward is caught and no right one accused."""

import pytest

from manual_bp.conformance import Report, check
from manual_bp.spec import Draw

from .mutants import RIGHT, WRONG, Entry

MORE_SEEDS = range(1, 10)


def verdict(entry: Entry, seed: int, **options) -> Report:
    inputs = entry.inputs(Draw(seed))
    return check(entry.manual, entry.reference, *inputs, seed=seed, name=entry.name, **options)


def test_there_are_enough_of_them():
    assert len(WRONG) >= 80 and len(RIGHT) >= 80
    assert sum(entry.reported for entry in WRONG) >= 40
    assert all(entry.source for entry in WRONG + RIGHT)


@pytest.mark.parametrize("entry", WRONG, ids=str)
def test_wrong_backward_is_caught(entry):
    report = verdict(entry, seed=0, fail_fast=True, timeout=1.0)
    assert not report.passed, entry.source


@pytest.mark.parametrize("entry", RIGHT, ids=str)
def test_right_backward_is_not_accused(entry):
    report = verdict(entry, seed=0)
    assert report.passed, f"{entry.source}\n{report.text()}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", MORE_SEEDS)
def test_verdicts_do_not_depend_on_the_seed(seed):
    missed = [e.name for e in WRONG if verdict(e, seed, fail_fast=True, timeout=1.0).passed]
    accused = [e.name for e in RIGHT if not verdict(e, seed).passed]
    assert not missed and not accused
