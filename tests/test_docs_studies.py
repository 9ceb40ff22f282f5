"""The documentation says of each study what its full run found: `python -m benchmarks.studies`."""

import json

import pytest

from benchmarks.studies import FOUND, PAGE, claims, summary
from benchmarks.tables import ROOT
from experiments import catalog

KNOWN = json.loads(FOUND.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", catalog.names())
def test_a_study_s_findings_are_those_of_its_predictions(name: str) -> None:
    assert name in KNOWN, "make studies, then python -m benchmarks.studies"
    claims = [verdict["claim"] for verdict in KNOWN[name]["verdicts"]]
    assert claims == [prediction.claim for prediction in catalog.load(name).predictions]
    assert all(verdict["verdict"] != "not decided" for verdict in KNOWN[name]["verdicts"])
    assert "by hand" in KNOWN[name]["agreement"]
    assert (ROOT / "docs" / "figures" / f"{name}.svg").is_file()


def test_the_pages_have_the_verdicts() -> None:
    assert PAGE.read_text(encoding="utf-8") == claims(KNOWN)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- studies:begin -->\n{summary(KNOWN)}\n<!-- studies:end -->" in page
