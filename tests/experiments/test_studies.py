"""Every study in its short form, from the command line, disturbed and undisturbed."""

import json
import re
import signal
import time
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from experiments import catalog

STUDIES = catalog.names()
SLOW = pytest.mark.slow

pytestmark = pytest.mark.timeout(900)  # the first to ask waits until all studies have run

Begin = Callable[..., Any]  # the fixtures of conftest.py
Run = Callable[[str], Any]


def results(place: Path) -> dict[str, float]:
    """The finished trials, and when each was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in place.glob("trials/*/result.json")}


def wait_for(count: int, place: Path, command: Any) -> dict[str, float]:
    for _ in range(2400):
        if len(found := results(place)) >= count:
            return found
        assert command.process.poll() is None, command.end()
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} of {count} trials finished in two minutes")


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_ends_with_its_findings(study: str, fast: Run) -> None:
    run = fast(study)
    assert run.ended.status == 0, run.ended.err
    assert run.ended.err == ""
    assert "Manual and autograd agree" in run.ended.out
    assert re.search(
        r"The audit found every gradient of all \d+ manual trials by hand", run.ended.out
    )
    for prediction in catalog.load(study).predictions:
        assert f": {prediction.claim} (" in run.ended.out
    assert re.search("^holds: ", run.ended.out, flags=re.M)
    assert "does not reproduce: " not in run.ended.out
    assert f"report       {run.place}/report.html" in run.ended.out
    assert f"tensorboard --logdir {run.place}/tensorboard" in run.ended.out
    assert list((run.place / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_finished_is_not_run_again(study: str, fast: Run, start: Begin) -> None:
    run = fast(study)
    before = results(run.place)
    again = start("run", study, "--fast", "--logs", run.logs).end()
    assert again.status == 0
    assert again.out == run.ended.findings + "\n"
    assert results(run.place) == before


@pytest.mark.parametrize("study", STUDIES)
def test_the_trials_are_seeded_audited_and_named(study: str, fast: Run) -> None:
    for folder in (fast(study).place / "trials").iterdir():
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        assert record["all_by_hand"] is True
        tuned = record["labels"]["phase"] == "tuning"
        assert (record["compared"] is None) is tuned
        assert tuned or (record["compared"]["wrong"] is None and record["compared"]["gradients"])
        diverged = None in record["curves"]["train/loss"]  # on its way there it amplifies rounding
        assert tuned or diverged or record["compared"]["parted"] is None
        assert folder.name == f"{record['trial']}-{record['key']}"
        assert record["warnings"] == []
        assert record["versions"]["torch"]


class Page(HTMLParser):
    """Collects what matters of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href"):
                self.references.append(str(value))


@pytest.mark.parametrize("study", STUDIES)
def test_the_report_needs_nothing_beside_itself(study: str, fast: Run) -> None:
    text = (fast(study).place / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(reference.startswith(("#", "data:image/png")) for reference in page.references)
    assert "script" not in page.tags and "link" not in page.tags and "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
    figures = page.tags.count("figure")
    assert figures >= 5
    assert page.tags.count("svg") == page.tags.count("figcaption") == figures
    assert "#010203" not in text  # the ink has become the page's
    for prediction in catalog.load(study).predictions:
        assert prediction.claim.replace("'", "&#x27;") in text
    source = (catalog.FOLDER / f"{study}.py").read_text(encoding="utf-8")
    about = " ".join(source.split("\n\n")[1].split())  # below the question, what is done
    assert f"<p>{escape(about[:100])}" in text


def test_a_report_is_written_again_from_the_results(fast: Run, start: Begin) -> None:
    run = fast("xor")
    page = run.place / "report.html"
    before, written = page.read_bytes(), page.stat().st_mtime_ns
    ended = start("report", "xor", "--fast", "--logs", run.logs).end()
    assert ended.status == 0 and ended.out in run.ended.findings + "\n"
    assert page.read_bytes() == before and page.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    "study",
    # A sequence, a text, a loop of its own; the other studies are images and a classifier.
    [
        study if study in ("bptt", "language_model", "xor") else pytest.param(study, marks=SLOW)
        for study in STUDIES
    ],
)
def test_a_pasted_configuration_gives_the_same_bits(
    study: str, fast: Run, start: Begin, tmp_path: Path
) -> None:
    trials = fast(study).place / "trials"
    folder = min(trials.iterdir())
    ended = start("fit", "--config", folder / "config.yaml", "--trainer.logger", "false").end()
    assert ended.status == 0, ended.err
    assert f"equals {folder / 'result.json'} to the last bit" in ended.out


def test_ctrl_c_ends_with_one_line(start: Begin, tmp_path: Path) -> None:
    # Seven trials of a second or two: long enough for the signal to find some of them under way.
    command = start("run", "activations", "--fast", "--jobs", 1, "--logs", tmp_path)
    kept = wait_for(1, tmp_path / "activations-fast", command)
    command.signal(signal.SIGINT)
    ended = command.end()
    assert ended.status == 130
    assert re.fullmatch(
        r"experiments: Stopped\. \d+ of these \d+ trials are done and kept; to go on: "
        r"python -m experiments run activations --fast --jobs 1 "
        rf"--logs {re.escape(str(tmp_path))}\n",
        ended.err,
    ), ended.err
    assert kept.items() <= results(tmp_path / "activations-fast").items()


def test_one_kind_of_gradients_compares_nothing(start: Begin, tmp_path: Path) -> None:
    words = ("run", "xor", "--fast", "--seeds", 1, "--backprop", "autograd", "--logs", tmp_path)
    ended = start(*words).end()
    assert ended.status == 0, ended.err
    assert "there is nothing to compare" in ended.out
    assert not any("manual" in name for name in results(tmp_path / "xor-fast"))
