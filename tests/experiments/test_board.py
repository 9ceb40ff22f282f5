"""TensorBoard asked over HTTP, and in a browser, for what a study shows side by side."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import board
from experiments.board import POINTS
from experiments.statistics import interval
from experiments.trial import Result, Trial

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
STEPS = 300
ARMS = ("SGD", "Adam, no/decay")

pytestmark = pytest.mark.filterwarnings(
    "ignore:html5lib's sanitizer is deprecated:DeprecationWarning"  # inside tensorboard 2.21
)


def results() -> list[Result]:
    generator = np.random.default_rng(0)
    made = []
    for arm in ARMS:
        for seed in range(3):
            curves = {
                "train/loss": generator.random(STEPS),
                "val/step": np.arange(10, 60, 10),
                "val/accuracy": generator.random(5),
            }
            trial = Trial(f"{arm}-{seed}", {"arm": arm}, {}, watch=f"{arm}/seed{seed}")
            made.append(Result(trial, Path(), {}, curves, None, 0.0, True))
    unwatched = Trial("tuning", {"arm": "SGD"}, {})
    made.append(Result(unwatched, Path(), {}, {"train/loss": np.ones(STEPS)}, None, 0.0, True))
    return made


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server on loopback over a study's folder."""
    from tensorboard import program

    place = tmp_path_factory.mktemp("study")
    board.write(results()[:1], place)
    board.write(results(), place)  # takes the place of what was there
    server = program.TensorBoard()
    options = ["--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    server.configure(["tensorboard", "--logdir", str(place / "tensorboard"), *options])
    return server.launch()


Get = Callable[..., Any]


@pytest.fixture(scope="module")
def get(url: str) -> Get:
    def get(route: str, **query: str) -> Any:
        whole = f"{url}{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(whole, timeout=60) as response:
            return json.load(response)

    for _ in range(600):  # the server reads the folder meanwhile
        if len(get("data/runs")) == len(ARMS):
            break
        time.sleep(0.1)
    return get


def test_the_layout_has_a_chart_for_each_curve(get: Get) -> None:
    (category,) = get("data/plugin/custom_scalars/layout")["category"]
    assert [chart["title"].partition(":")[0] for chart in category["chart"]] == [
        "train/loss",
        "val/accuracy",
    ]
    (series,) = category["chart"][0]["margin"]["series"]
    assert series == {
        end: f"arms/train/loss/{name}"
        for end, name in zip(("value", "lower", "upper"), ("mean", "lower", "upper"), strict=True)
    }
    assert set(get("data/runs")) == {"arms/SGD", "arms/Adam, no-decay"}


def test_an_arm_is_the_mean_over_its_seeds_in_its_interval(get: Get) -> None:
    own = [r.curves["val/accuracy"] for r in results()[:3]]
    for end in ("mean", "lower", "upper"):
        tag = f"arms/val/accuracy/{end}"
        found = get("data/plugin/custom_scalars/scalars", run="arms/SGD", tag=tag)
        points = found["tag_to_events"][tag]
        assert [step for _, step, _ in points] == [10, 20, 30, 40, 50]
        for i, (_, _, value) in enumerate(points):
            mean, half = interval([float(curve[i]) for curve in own])
            expected = {"mean": mean, "lower": mean - half, "upper": mean + half}[end]
            assert value == pytest.approx(expected, rel=1e-5)
    tag = "arms/train/loss/mean"
    found = get("data/plugin/custom_scalars/scalars", run="arms/SGD", tag=tag)
    assert len(found["tag_to_events"][tag]) <= POINTS < STEPS


def test_one_seed_has_no_interval_and_nothing_watched_no_run(tmp_path: Path) -> None:
    board.write(results()[-1:], tmp_path)
    assert not list(tmp_path.rglob("events*"))
    rows = list(board._band(results()[:1], "val/accuracy"))
    assert all(mean == lower == upper for _, mean, lower, upper in rows)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")
def test_a_browser_draws_the_charts(url: str, get: Get) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page()
        page.set_default_timeout(120_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}#custom_scalars")
        cards = page.locator("tf-custom-scalar-margin-chart-card")
        cards.nth(1).wait_for()
        page.get_by_text("train/loss: mean and 95 % interval").wait_for()
        assert cards.count() == 2 and not errors
        browser.close()
