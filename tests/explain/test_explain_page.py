"""The page in a real browser: it steps, its numbers are those of the JSON, nothing complains."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from manual_bp.explain import Explanation, explain
from manual_bp.explain.lessons import LESSONS
from manual_bp.explain.views import render

from .networks import gpt, made

api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def _xor() -> Explanation:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid())
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return explain(
        model,
        x,
        target=torch.tensor([[0.0], [1.0], [1.0], [0.0]]),
        loss=nn.functional.binary_cross_entropy,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
    )


def _gpt() -> Explanation:
    model, inputs, target, loss = made(gpt)
    return explain(model, *inputs, target=target, loss=loss)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    folder, found = tmp_path_factory.mktemp("pages"), {}
    steps = {"xor": _xor(), "gpt": _gpt(), "long name": LESSONS["xor"].explain()}
    for name, step in steps.items():
        path = folder / f"{name}.html"
        step.save(path)
        found[name] = path, json.loads(render(step, "json"))
    return found


class Opened:
    """A page, and what its console said."""

    def __init__(self, browser: Any, path: Path, width: int = 1200, scheme: str = "light") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    @property
    def where(self) -> tuple[int, str]:
        data = self.page.evaluate("({...document.body.dataset})")
        return int(data["step"]), data["phase"]

    def tables(self) -> dict[str, list[float]]:
        """The numbers that are shown, by symbol."""
        return {
            symbol: [_read(text) for text in texts]
            for symbol, texts in self.page.evaluate(
                """[...document.querySelectorAll('#panel .tensor')].map(t =>
                    [t.dataset.symbol, [...t.querySelectorAll('td')].map(d => d.textContent)])"""
            )
        }


def _read(text: str) -> float:
    plain = text.replace("−", "-").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))  # noqa: RUF001
    return float(plain.replace("·10", "e"))


def _flat(values: Any) -> list[float]:
    return [v for part in values for v in _flat(part)] if isinstance(values, list) else [values]


def _assert_shown(shown: list[float], values: Any) -> None:
    assert shown == pytest.approx(_flat(values), rel=6e-4, abs=0)


def test_one_step_after_the_other_with_the_numbers_of_the_json(browser: Any, written: Any) -> None:
    path, told = written["xor"]
    opened = Opened(browser, path)
    operations = told["operations"]
    assert opened.where == (0, "start")
    for i, operation in enumerate(operations, start=1):
        opened.page.click("#next")
        assert opened.where == (i, "forward")
        tables = opened.tables()
        for s in operation["inputs"] + operation["outputs"]:
            _assert_shown(tables[s["name"]], s["value"]["values"])
    for i, operation in enumerate(reversed(operations), start=len(operations) + 1):
        opened.page.keyboard.press("ArrowRight")
        assert opened.where == (i, "backward")
        tables = opened.tables()
        for s in operation["inputs"] + operation["outputs"]:
            if s["gradient"] is not None:
                _assert_shown(tables[f"d{s['name']}"], s["gradient"]["values"])
    opened.page.keyboard.press("ArrowRight")
    assert opened.where == (2 * len(operations) + 1, "update")
    for update in told["updates"]:
        for cell in ("before", "gradient", "after"):
            place = f'#panel section[data-parameter="{update["name"]}"] [data-symbol="{cell}"] td'
            shown = [_read(t) for t in opened.page.locator(place).all_text_contents()]
            _assert_shown(shown, update[cell]["values"])
    assert opened.page.is_disabled("#next")
    assert not opened.said
    assert opened.asked == [path.as_uri(), "data:,"] or opened.asked == [path.as_uri()]


def test_keys_slider_and_boxes(browser: Any, written: Any) -> None:
    opened = Opened(browser, written["xor"][0])
    page = opened.page
    page.keyboard.press("End")
    assert opened.where == (11, "update")
    page.keyboard.press("ArrowLeft")
    assert opened.where == (10, "backward")
    page.keyboard.press("Home")
    assert opened.where == (0, "start")
    page.keyboard.press("ArrowLeft")  # there is nothing before the first
    assert opened.where == (0, "start")
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert opened.where == (2, "forward")
    page.locator(".node").nth(3).focus()
    page.keyboard.press("Enter")
    assert opened.where == (4, "forward")
    page.locator(".node").nth(0).click()
    assert opened.where == (1, "forward")
    assert page.locator(".node.current").get_attribute("aria-current") == "step"
    assert "Step 1 of 11: Forward" in page.inner_text("#told")
    assert not opened.said


def test_blame_is_drawn_by_its_size(browser: Any, written: Any) -> None:
    path, told = written["xor"]
    opened = Opened(browser, path)
    opened.page.keyboard.press("End")
    widths = opened.page.evaluate(
        "[...document.querySelectorAll('.edge:not(.entry)')]"
        ".map(e => parseFloat(getComputedStyle(e).strokeWidth))"
    )
    sizes = [o["inputs"][0]["gradient"]["norm"] for o in told["operations"][1:]]
    assert len(widths) == len(sizes)
    assert sorted(range(4), key=widths.__getitem__) == sorted(range(4), key=sizes.__getitem__)


def test_a_deep_network_folds_and_opens(browser: Any, written: Any) -> None:
    path, told = written["gpt"]
    opened = Opened(browser, path)
    page = opened.page
    boxes = page.locator(".node").count()
    assert boxes <= 12 < len(told["operations"])
    page.locator(".node", has=page.locator(".back")).first.click()
    assert "operations in one box" in page.inner_text("#panel")
    page.click("#panel [data-open]")
    assert page.locator(".node").count() > boxes
    page.click("#panel [data-fold]")
    assert page.locator(".node").count() == boxes
    assert not opened.said


@pytest.mark.parametrize("name", ["xor", "gpt", "long name"])
def test_it_fits_a_phone_in_the_dark(name: str, browser: Any, written: Any) -> None:
    path, _ = written[name]
    opened = Opened(browser, path, width=375, scheme="dark")
    last = opened.page.evaluate("frames.length")
    light = opened.page.evaluate("getComputedStyle(document.body).color")
    assert light == "rgb(233, 231, 226)"
    for _ in range(last):
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 375, opened.where
        opened.page.keyboard.press("ArrowRight")
    assert opened.where[0] == last - 1
    assert not opened.said


def test_it_is_one_small_file(written: Any) -> None:
    for path, _ in written.values():
        page = path.read_text(encoding="utf-8")
        assert len(page.encode()) < 1_000_000
        for outside in ("http:", "https:", "src=", "@import"):
            assert outside not in page.replace("http://www.w3.org/2000/svg", ""), outside


def test_what_is_written_into_the_page_is_text(browser: Any, tmp_path: Path) -> None:
    step = _xor()
    step.title = "</script><script>alert(1)</script> & <b>"
    step.question, step.notes = "Is `a < b` *so*?", ["</script>"]
    step.operations[0].module = "<img src=x onerror=alert(2)>"
    path = tmp_path / "page.html"
    step.save(path)
    opened = Opened(browser, path)
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.inner_text("h1") == step.title
    assert opened.page.inner_text(".question code") == "a < b"
    assert "<img" in opened.page.inner_text("#panel")
    assert not opened.said


def test_nan_is_shown_and_breaks_nothing(browser: Any, tmp_path: Path) -> None:
    first = nn.Linear(2, 2)
    with torch.no_grad():
        first.weight[0, 0] = math.nan
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(2, 1))
    path = tmp_path / "page.html"
    explain(model, torch.ones(3, 2), target=torch.ones(3, 1)).save(path)
    opened = Opened(browser, path)
    for _ in range(10):
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.inner_text("#panel h2")
    opened.page.evaluate("go(1)")
    assert "NaN" in opened.page.inner_text("#panel")
    assert not opened.said
