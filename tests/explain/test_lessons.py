"""Every number that a lesson tells is computed here a second time, without the library.

NumPy and plain Python do it, from the formulas, with gradients by finite differences where a
formula would only be the lesson's own again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest

from manual_bp.explain.explanation import Explanation, Table
from manual_bp.explain.lessons import LESSONS
from manual_bp.explain.views import VIEWS, render

Array = Any


@cache
def lesson(name: str) -> Explanation:
    return LESSONS[name].explain()


def numbers(text: str) -> list[float]:
    """Every number of a text; minus signs that subtract count as signs too, so compare sizes."""
    return [float(n) for n in re.findall(r"(?<![\w.^])-?\d+\.?\d*(?:e-?\d+)?(?![\w^])", text)]


def told(name: str) -> tuple[list[str], list[Table]]:
    answer = lesson(name).answer
    return (
        [part for part in answer if isinstance(part, str)],
        [part for part in answer if isinstance(part, Table)],
    )


def column(table: Table, name: str) -> list[str]:
    at = list(table.head).index(name)
    return [row[at] for row in table.rows]


def assert_numbers(cells: Iterable[str], truth: Iterable[float], digits: int = 3) -> None:
    """Cells, and the numbers that they should be, to so many digits."""
    found, expected = [float(c) for c in cells], [float(t) for t in truth]
    assert found == pytest.approx(expected, rel=0.51 * 10 ** (1 - digits), abs=1e-12)


def assert_told(text: str, *truth: float) -> None:
    """Each of these numbers stands in the text, to three digits."""
    found = numbers(text)
    for expected in truth:
        near = [n for n in found if abs(abs(n) - abs(expected)) <= 5.1e-3 * abs(expected) + 1e-15]
        assert near, f"{expected} is not told in: {text}"


def slopes(f: Callable[[Array], float], at: Array) -> Array:
    """Gradient by central differences."""
    at = np.asarray(at, dtype=float)
    out = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-6
        out[place] = (f(at + step) - f(at - step)) / 2e-6
    return out


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_asks_first_and_every_view_shows_it(name: str) -> None:
    step = lesson(name)
    assert step.question.count("?") >= 1 and step.title == LESSONS[name].title
    assert step.error is not None and step.error < 1e-12
    first = next(part for part in step.answer if isinstance(part, str))
    for view in sorted(set(VIEWS)):
        shown = render(step, view, 4)
        words = " ".join(shown.split())
        assert step.question.split(".")[0] in words or view == "json", view
        if view in ("text", "markdown"):
            assert words.index(step.question[:40]) < words.index(first[:40])
    assert len(render(step, "html", 4)) < 1_000_000


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_written_for_a_reader(name: str) -> None:
    """Short sentences, no markup that a view would misread, no number with many digits."""
    texts, tables = told(name)
    cells = [cell for table in tables for row in table.rows for cell in (*row, *table.head)]
    for text in (*texts, LESSONS[name].question):
        assert "*" not in text and text.count("`") % 2 == 0
        plain = re.sub(r"\d\.\d|`[^`]*`", "0", text)
        for sentence in re.split(r"[.?!:;] ", plain):
            assert len(sentence.split()) <= 45, sentence
    for text in (*texts, *cells):
        for digits in re.findall(r"\d+\.(\d+)", text):
            assert len(digits.lstrip("0")) <= 4, text
        assert not re.search(r"(?<![\w.])-0(?![\d.])", text), text


def test_weight() -> None:
    (first, _), (table,) = told("weight")
    assert "2 - 0.1 × 0.5 = 1.95" in first and "becomes 1.95" in first
    assert lesson("weight").update("weight").after.item() == pytest.approx(1.95)  # type: ignore[union-attr]
    rates = [float(r) for r in column(table, "rate")]
    arrives = [2.0 - rate * slopes(lambda w: float((w - 1.75) ** 2), 2.0).item() for rate in rates]
    assert_numbers(column(table, "weight after the step"), arrives, 4)
    losses = [(w - 1.75) ** 2 for w in arrives]
    found = [float(c) for c in column(table, "loss after the step")]
    assert found == pytest.approx(losses, rel=1e-3, abs=1e-8)
    verdicts = ["lower", "lower", "lower", "the same", "higher"]
    assert column(table, "than before") == verdicts
    assert [("lower" if v < 0.0625 - 1e-6 else "higher" if v > 0.0625 + 1e-6 else "the same")
            for v in losses] == verdicts  # fmt: skip
    assert_told(table.caption, 0.0625, 1.75)


def test_three_layers() -> None:
    x, t = np.array([1.0, 0.5]), 1.0
    w1, b1 = np.array([[0.5, -0.4], [0.3, 0.8]]), np.array([0.1, -0.2])
    w2, b2 = np.array([[0.7, -0.6]]), np.array([0.05])

    def loss(z1: Array | None = None, z2: Array | None = None, **new: Array) -> float:
        v = {"w1": w1, "b1": b1, "w2": w2, "b2": b2} | new
        h = sigmoid(v["w1"] @ x + v["b1"] if z1 is None else z1)
        y = sigmoid(v["w2"] @ h + v["b2"] if z2 is None else z2)
        return float(((y - t) ** 2).sum() / 2)

    h = sigmoid(w1 @ x + b1)
    z2 = w2 @ h + b2
    y = sigmoid(z2)
    delta_output = slopes(lambda z: loss(z2=z), z2)
    delta_hidden = slopes(lambda z: loss(z1=z), w1 @ x + b1)
    texts, (deltas, products) = told("three-layers")
    truth = [y[0] - t, *delta_output, *delta_hidden]
    assert_numbers(column(deltas, "is"), truth)
    for row, expected in zip(deltas.rows, truth, strict=True):
        factors = numbers(row[2])
        value = factors[0] - abs(factors[1]) if row[0] == "dL/dy" else math.prod(factors)
        assert value == pytest.approx(expected, rel=0.01)
    gradients = [
        slopes(lambda w: loss(w2=w), w2),
        slopes(lambda b: loss(b2=b), b2),
        slopes(lambda w: loss(w1=w), w1),
        slopes(lambda b: loss(b1=b), b1),
    ]
    for cell, gradient in zip(column(products, "numbers"), gradients, strict=True):
        assert numbers(cell) == pytest.approx(list(gradient.flatten()), rel=6e-3)
    assert numbers(products.caption) == pytest.approx([*h, *x], rel=6e-3)
    assert_told(texts[-1], y[0], delta_output[0] * 0.7, delta_output[0] * -0.6)


def test_regression() -> None:
    step = lesson("regression")
    (x, w1, b1), (w2, b2) = (
        [s.value.numpy() for s in step.at(layer)[0].inputs if s.parameter or s.producer is None]
        for layer in ("hidden", "output")
    )
    t = step.at("loss")[0].inputs[1].value.numpy()
    assert abs(w1).max() <= math.sqrt(6 / 15) and not b1.any()  # Glorot's, as Keras draws

    def loss(w1: Array = w1, b1: Array = b1, w2: Array = w2, b2: Array = b2) -> float:
        return float(((np.maximum(x @ w1.T + b1, 0) @ w2.T + b2 - t) ** 2).mean())

    found = [
        slopes(lambda w: loss(w1=w), w1),
        slopes(lambda b: loss(b1=b), b1),
        slopes(lambda w: loss(w2=w), w2),
        slopes(lambda b: loss(b2=b), b2),
    ]
    texts, (table,) = told("regression")
    sizes = [abs(g) for g in found]
    smallest, largest = min(s.min() for s in sizes), max(s.max() for s in sizes)
    assert sum(s.size for s in sizes) == 61
    assert texts[0].startswith("61 numbers learn")
    for cell, size in zip(column(table, "size of the gradients"), sizes, strict=True):
        assert numbers(cell) == pytest.approx(sorted({size.min(), size.max()}), rel=6e-3)
    # Adam's first step is lr g / (|g| + eps).
    assert set(column(table, "size of the steps")) == {"0.001"}
    assert 1e-3 * smallest / (smallest + 1e-8) == pytest.approx(1e-3, rel=1e-5)
    assert_told(texts[0], largest / smallest)
    assert_told(texts[1], 1e-3 * smallest)
    off = (x @ w1.T + b1 <= 0).mean()
    assert f"{100 * off:.0f} % of its 160 places" in texts[2]


def test_softmax() -> None:
    z, right = np.array([2.0, 1.0, -1.0]), 1

    def p(z: Array) -> Array:
        return np.exp(z) / np.exp(z).sum()

    gradient = slopes(lambda z: -math.log(p(z)[right]), z)
    texts, (table,) = told("softmax")
    assert_numbers(column(table, "p"), p(z))
    assert_numbers(column(table, "dp_right/dz"), slopes(lambda z: p(z)[right], z))
    assert_numbers(column(table, "dL/dz, recorded"), gradient)
    assert_numbers(column(table, "p - y"), p(z) - np.array([0, 1, 0]))
    assert_numbers(column(table, "p - y"), gradient)
    assert_told(table.caption, p(z)[right], -math.log(p(z)[right]))
    assert_told(texts[0], p(z)[right], 1 - p(z)[right])
    assert_told(texts[1], 1 / p(z)[right], p(z)[0] * p(z)[right], gradient[0])
    assert_told(texts[2], *gradient)
    assert "add up to 0:" in texts[2]
    assert float(re.findall(r"one above is ([\d.e-]+)\.", texts[2])[0]) < 1e-15


def _xor(seed: int, steps: int = 1000) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The tutorial's lines, on NumPy's own draws."""
    x, t = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([[0], [1], [1], [0.0]])
    draw = np.random.RandomState(seed)
    w1, w2, b1, b2 = draw.randn(2, 4) * 0.1, draw.randn(4, 1) * 0.1, np.zeros(4), np.zeros(1)
    for _ in range(steps):
        z = x @ w1 + b1
        h = np.maximum(z, 0)
        delta = (sigmoid(h @ w2 + b2) - t) / 4
        back = (delta @ w2.T) * (z > 0)
        w1, b1 = w1 - 0.5 * x.T @ back, b1 - 0.5 * back.sum(0)
        w2, b2 = w2 - 0.5 * h.T @ delta, b2 - 0.5 * delta.sum(0)
    z = x @ w1 + b1
    h = np.maximum(z, 0)
    y = sigmoid(h @ w2 + b2)
    delta = (y - t) / 4
    loss = -(t * np.log(y) + (1 - t) * np.log(1 - y)).mean()
    return z > 0, y[:, 0], x.T @ ((delta @ w2.T) * (z > 0)), h.T @ delta, loss, t


def test_xor() -> None:
    on, y, first, second, loss, _ = _xor(42)
    texts, (table,) = told("xor")
    assert list((y > 0.5).astype(int)) == [1, 1, 1, 0] and "says [1 1 1 0]" in texts[0]
    assert float(lesson("xor").loss) == pytest.approx(float(loss), rel=1e-10)
    assert f"{float(loss):.3f}" == "0.478"  # as the study of the experiments has it
    points = ["(0,0)", "(0,1)", "(1,0)", "(1,1)"]
    start = _xor(42, 0)[0]
    for unit in range(4):
        row = table.rows[unit]
        assert row[1] == (" ".join(np.array(points)[start[:, unit]]) or "nothing")
        assert row[2] == (" ".join(np.array(points)[on[:, unit]]) or "nothing")
        assert_numbers(row[3:4], [float(np.linalg.norm(first[:, unit]))])
        assert_numbers(row[4:5], [abs(second[unit, 0])])
    dead = [f"{unit + 1}" for unit in range(4) if not on[:, unit].any()]
    assert dead == ["2"] and "Unit 2 is dead" in texts[0]
    assert [points[k] for k in range(4) if not on[k].any()] == ["(0,0)", "(0,1)", "(1,0)"]
    assert texts[1].startswith("(0,0), (0,1) and (1,0) turn no unit on")
    plateau = (2 * math.log(3 / 2) + math.log(3)) / 4
    assert_told(texts[1], 2 / 3, y[0], plateau, float(loss))
    solved = _xor(0)
    assert list((solved[1] > 0.5).astype(int)) == [0, 1, 1, 0] and "[0 1 1 0]" in texts[2]
    assert_told(texts[2], float(solved[4]))


def test_sigmoid_chain() -> None:
    def chain(f: Callable[[Array], Array], w: float, b: float, shortcut: bool) -> list[float]:
        found = []
        for layer in range(8, 0, -1):
            h = 0.5
            for _ in range(layer - 1):
                h = f(w * h + b) + shortcut * h

            def rest(h: Array, count: int = 9 - layer) -> float:
                for _ in range(count):
                    h = f(w * h + b) + shortcut * h
                return float(h)

            found.append(float(slopes(rest, h)))
        return found

    texts, (table,) = told("sigmoid-chain")
    for head, truth in (
        ("sigmoid, weight 2", chain(sigmoid, 2.0, -1.0, False)),
        ("ReLU, weight 1", chain(lambda z: np.maximum(z, 0), 1.0, 0.0, False)),
        ("tanh, weight 1", chain(np.tanh, 1.0, 0.0, False)),
        ("sigmoid, shortcut", chain(sigmoid, 2.0, -1.0, True)),
    ):
        assert [float(c) for c in column(table, head)] == pytest.approx(truth, abs=6e-4)
        if head == "sigmoid, weight 2":
            assert truth == pytest.approx([0.5**k for k in range(1, 9)], rel=1e-6)
    assert column(table, "sigmoid, weight 2")[0] == "0.500"
    assert column(table, "sigmoid, weight 2")[-1] == "0.004"
    assert texts[0].startswith("0.004")
    assert_told(texts[1], chain(sigmoid, 2.0, -1.0, True)[-1])


def test_divergence() -> None:
    t = (np.arange(20) >= 1).astype(float)

    def train(rate: float, clip: float = math.inf) -> list[tuple[float, float, float]]:
        a, b, found = 0.19773, 2.41784, []
        for _ in range(8):
            z = a * b
            with np.errstate(all="ignore"):
                e = np.exp(np.float64(z))
                loss = -(t * np.log(e / (1 + e)) + (1 - t) * np.log(1 / (1 + e))).mean()
                g = e / (1 + e) - 0.95
            norm = math.hypot(g * b, g * a)
            g *= min(1.0, clip / norm) if norm else 1.0
            a, b = a - rate * g * b, b - rate * g * a
            found.append((float(loss), norm, z))
        return found

    plain, clipped, slow = train(9.61046), train(9.61046, 0.05), train(0.5)
    texts, (table,) = told("divergence")
    assert "goes 0.5, 1.2, 4.7, 23.1, NaN." in texts[0]
    shown = [f"{loss:.1f}" for loss, *_ in plain[:4]]
    assert shown == ["0.5", "1.2", "4.7", "23.1"] and math.isnan(plain[4][0])
    for i, row in enumerate(table.rows):
        if i < 4:
            assert row[1] == shown[i]
            assert float(row[2]) == pytest.approx(plain[i][1], abs=0.051)
        else:
            assert (row[1], row[2]) == ("NaN", "NaN")
        if i < 5:
            assert_numbers(row[3:4], [plain[i][2]])
        assert float(row[4]) == pytest.approx(clipped[i][0], abs=0.0051)
        assert float(row[5]) == pytest.approx(slow[i][0], abs=0.0051)
    least = -0.05 * math.log(0.05) - 0.95 * math.log(0.95)
    assert_told(texts[0], math.log(19), plain[0][2], plain[1][2])
    assert_told(texts[1], plain[4][2], math.log(np.finfo(float).max))
    assert f"{plain[3][1] / 0.05:.0f} times shorter" in texts[2]
    for value in (9.61046 * 0.05, clipped[7][0], slow[7][0], least):
        assert f"{value:.2f}" in texts[2]
    norms = [norm for _, norm, _ in plain[1:4]]
    assert norms == sorted(norms)  # "from there on the gradient grows"


def test_convolution() -> None:
    x, w, t = np.array([0, 1, 3, 2, 1.0]), np.array([0.5, -1, 0.5]), np.array([1, -1, 0.0])

    def y(x: Array = x, w: Array = w) -> Array:
        return np.array([x[p : p + 3] @ w for p in range(3)])

    dy = slopes(lambda y: float(((y - t) ** 2).mean()), y())
    dw = slopes(lambda w: float(((y(w=w) - t) ** 2).mean()), w)
    dx = slopes(lambda x: float(((y(x=x) - t) ** 2).mean()), x)
    texts, (table,) = told("convolution")
    assert_numbers(column(table, "y")[:3], y())
    assert column(table, "dy")[:3] == ["-0.333", "-0.333", "0"] and dy[2] == pytest.approx(0)
    assert_numbers(column(table, "dy")[:2], dy[:2])
    for k, head in enumerate(("share of w1", "of w2", "of w3")):
        cells = [float(c) for c in column(table, head)]
        truth = [*(dy[p] * x[p + k] for p in range(3)), dw[k]]
        assert cells == pytest.approx(truth, rel=6e-3, abs=1e-6)
    assert texts[0].startswith("3 times")
    middle = re.findall(r"through each: (.*) = ([-\d.]+)\.", texts[2])[0]
    assert float(middle[1]) == pytest.approx(dx[2], rel=6e-3)
    assert eval_products(middle[0]) == pytest.approx(dx[2], abs=2e-3)
    assert_told(texts[3], 15, 3)


def eval_products(text: str) -> float:
    """``0.5 × 0 - 1 × (-0.333)`` as a number."""
    total = 0.0
    for sign, a, b in re.findall(r"([+-]?) ?(\d+\.?\d*) × \(?(-?\d+\.?\d*)\)?", text):
        total += (-1 if sign == "-" else 1) * float(a) * float(b)
    return total


def test_rnn() -> None:
    xs, w, u, t = [1.0, 0, 0, 0], 0.9, 0.8, 0.5

    def run(weights: Array, bump: Array | None = None) -> tuple[float, list[float]]:
        h, states = 0.0, [0.0]
        for i, x in enumerate(xs):
            h = math.tanh(weights[i] * h + u * x + (0 if bump is None else bump[i]))
            states.append(h)
        return (h - t) ** 2, states

    weights = np.full(4, w)
    states = run(weights)[1]
    shares = slopes(lambda each: run(each)[0], weights)
    deltas = slopes(lambda bump: run(weights, bump)[0], np.zeros(4))
    texts, (table,) = told("rnn")
    assert_numbers(column(table, "h before"), states[:-1])
    assert_numbers(column(table, "h after"), states[1:])
    assert_numbers(column(table, "slope"), [1 - h * h for h in states[1:]])
    assert_numbers(column(table, "delta_t"), deltas)
    found = [float(c) for c in column(table, "delta_t × h before")]
    assert found == pytest.approx(list(shares), rel=6e-3, abs=1e-9)
    assert_told(texts[0], *shares[1:], shares.sum())
    rate = (deltas[0] / deltas[3]) ** (1 / 3)
    slope = [1 - h * h for h in states[1:]]
    assert_told(texts[1], deltas[3], *(w * s for s in slope[:3]), deltas[0], deltas[0] / deltas[3])
    assert_told(texts[2], rate)
    assert float(re.findall(r"it would be ([\d.e-]+):", texts[2])[0]) == pytest.approx(
        rate**50, rel=6e-3
    )


def test_batch_norm() -> None:
    x, t, eps = np.array([1, 2, 3, 6.0]), np.array([0, 0, 0, 3.0]), 1e-5

    def hat(x: Array) -> Array:
        return (x - x.mean()) / np.sqrt(x.var() + eps)

    dx = slopes(lambda x: float(((hat(x) - t) ** 2).mean()), x)
    dy = 2 * (hat(x) - t) / 4
    rstd = 1 / math.sqrt(x.var() + eps)
    texts, (table,) = told("batch-norm")
    assert_numbers(column(table, "x"), x)
    for head, truth in (
        ("x^", hat(x)),
        ("dy", dy),
        ("its own", rstd * dy),
        ("by the mean", np.full(4, -rstd * dy.mean())),
        ("by the spread", -rstd * hat(x) * (dy * hat(x)).mean()),
        ("dx, recorded", dx),
    ):
        cells = [float(c) for c in column(table, head)]
        assert cells == pytest.approx(list(truth), rel=6e-3, abs=1e-8), head
    assert_told(texts[0], dx[2])
    assert_told(table.caption, 3, rstd)
    assert_told(texts[1], rstd, dy.mean(), rstd * dy.mean())
    assert "last column: 0." in texts[2] and dx.sum() == pytest.approx(0, abs=1e-8)
    assert abs(float(re.findall(r"add up: (-?[\d.e-]+),", texts[2])[0])) < 1e-6
    assert_told(texts[3], 1 / math.sqrt(eps))


def test_attention() -> None:
    x = np.array([[1, 0], [0, 1], [1, 1.0]])
    wq, wk, wv = (
        np.array(w) for w in ([[1, 0.5], [-0.5, 1]], [[0.5, -1], [1, 0.5]], [[1, -0.5], [0.5, 1]])
    )
    q, k, v, t = x @ wq.T, x @ wk.T, x @ wv.T, np.array([0, 1.0])
    scores = (q @ k.T / math.sqrt(2))[-1]

    def p(s: Array) -> Array:
        return np.exp(s) / np.exp(s).sum()

    def loss(p: Array, v: Array = v) -> float:
        return float(((p @ v - t) ** 2).mean())

    dp, ds = slopes(loss, p(scores)), slopes(lambda s: loss(p(s)), scores)
    dv = slopes(lambda v: loss(p(scores), v), v)
    texts, (table,) = told("attention")
    assert_numbers(column(table, "attention p"), p(scores))
    assert_numbers(column(table, "dL/dp"), dp)
    assert_numbers(column(table, "dL/dscore"), ds)
    for head, truth in (("value v", v), ("dL/dv", dv)):
        for cell, row in zip(column(table, head), truth, strict=True):
            assert numbers(cell) == pytest.approx(list(row), rel=6e-3)
    blame = slopes(lambda y: float(((y - t) ** 2).mean()), p(scores) @ v)
    assert numbers(table.caption) == pytest.approx(list(blame), rel=6e-3)
    most = int(abs(ds).argmax())
    assert f"For token {most + 1}:" in texts[2]
    assert_told(texts[1], p(scores)[0], *blame, *dv[0])
    assert_told(texts[2], dp[most], p(scores) @ dp, p(scores)[most], ds[most])
    assert "add up to 0:" in texts[3] and ds.sum() == pytest.approx(0, abs=1e-8)
