"""The views of a step: text, Markdown, JSON, and the command line that writes them."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torch import nn

from manual_bp.__main__ import main
from manual_bp.explain import Explanation, explain
from manual_bp.explain.fold import Group, folded
from manual_bp.explain.views import render
from manual_bp.explain.views.latex import latex
from manual_bp.explain.views.mathml import mathml
from manual_bp.explain.worked import worked, worked_update
from manual_bp.layers import SPECS

from .networks import gpt, made


@pytest.fixture(scope="module")
def weight() -> Explanation:
    """The single weight 2.0 that becomes 1.95."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 2.0)
    x, t = torch.tensor([[1.0]]).double(), torch.tensor([[1.75]]).double()
    return explain(model, x, target=t, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))


@pytest.fixture(scope="module")
def deep() -> Explanation:
    model, inputs, target, loss = made(gpt)
    return explain(model, *inputs, target=target, loss=loss)


def test_one_weight_in_numbers(weight: Explanation) -> None:
    update = weight.update("weight")
    assert worked_update(update) == "theta[0, 0] = 2 - 0.1 * 0.5 = 1.95"
    linear, loss = weight
    assert worked(linear).forward == ["y[0, 0] = 1 * 2 = 2"]
    assert worked(linear).backward == ["dW[0, 0] = 0.5 * 1 = 0.5"]
    assert worked(loss).forward == ["L = (2 - 1.75)^2 = 0.0625"]
    assert worked(loss).backward == ["dx[0, 0] = 1 * 2 * (2 - 1.75) / 1 = 0.5"]
    shown = str(weight)
    for line in ("y = x W^T + b", "dW (weight) = [[0.5]]", "after = [[1.95]]", "the same bits"):
        assert line in shown


def test_lines_end_in_the_number_that_was_recorded(deep: Explanation) -> None:
    """Whatever a line says, its last number is the tensor's own."""
    seen = 0
    for operation in deep:
        lines = worked(operation, precision=12)
        values = {s.name: s.value for s in operation.outputs}
        values |= {f"d{s.name}": s.gradient for s in operation.inputs if s.gradient is not None}
        for line in lines.forward + lines.backward:
            name = line.split("[")[0].split(" ")[0]
            place = lines.places.get(name)
            if name in values and place is not None and line.startswith(f"{name}["):
                last = float(line.rsplit("= ", 1)[1])
                assert last == pytest.approx(float(values[name][tuple(place)]), rel=1e-9), line
                seen += 1
    assert seen > 40


def test_a_long_sum_shows_its_largest_terms() -> None:
    """The numbers that make it, not the zeros that a ReLU puts first."""
    layer = nn.Conv1d(1, 1, 1, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.ones(1, 1, 1), "bias": torch.zeros(1)})
    x = torch.tensor([[[-1.0] * 6 + [2.0, 3.0]]], dtype=torch.float64)
    convolution, *_ = explain(nn.Sequential(layer, nn.ReLU()), x, loss=lambda y: y.square().sum())
    db = worked(convolution).backward[-1]
    assert db == "db[0] = 0 + 0 + 0 + 4 + 6 + ... (8 terms) = 10"


def test_a_large_tensor_is_told_by_its_range_and_a_deep_model_folds(deep: Explanation) -> None:
    shown = render(deep, "text", precision=3)
    assert "11 x 8, norm " in shown
    pieces = folded(deep, 12)
    assert len(pieces) <= 12
    groups = [p for p in pieces if isinstance(p, Group)]
    assert {g.path for g in groups} >= {"blocks.block1", "blocks.block2"}
    listed = [o for p in pieces for o in (p.operations if isinstance(p, Group) else [p])]
    assert listed == deep.operations
    assert folded(deep, 1000) == deep.operations


def test_only_a_layer(deep: Explanation) -> None:
    part = deep.only("blocks.block1.mlp")
    assert [o.name for o in part] == ["linear", "gelu", "linear"]
    assert {u.name.rsplit(".", 2)[1] for u in part.updates} == {"up", "down"}
    assert "gelu" in str(part)
    with pytest.raises(KeyError, match="'nowhere'"):
        deep.only("nowhere")


def test_json_holds_every_number(deep: Explanation) -> None:
    told = json.loads(render(deep, "json"))
    assert [o["name"] for o in told["operations"]] == [o.name for o in deep]
    for written, operation in zip(told["operations"], deep, strict=True):
        for s, symbol in zip(written["inputs"], operation.inputs, strict=True):
            assert s["value"]["shape"] == list(symbol.shape)
            if symbol.gradient is not None:
                assert s["gradient"]["values"] == symbol.gradient.tolist()
    assert told["loss"] == float(deep.loss)


def test_numbers_that_are_not_finite_are_text_in_json() -> None:
    step = explain(nn.Linear(1, 1), torch.tensor([[float("inf")]]), target=torch.ones(1, 1))
    told = json.loads(render(step, "json"))
    assert told["operations"][0]["inputs"][0]["value"]["values"] == [["inf"]]
    assert "inf" in str(step)
    assert "not finite" in str(step)
    for view in ("md", "html"):
        assert render(step, view)


def test_markdown_has_formulas_and_tables(weight: Explanation) -> None:
    written = render(weight, "md")
    assert r"$$ y = x W^{T} + b $$" in written
    assert r"\mathrm{d}W[0, 0] = 0.5 \cdot 1 = 0.5" in written
    assert r"$\theta[0, 0] = 2 - 0.1 \cdot 0.5 = 1.95$" in written
    assert "| $W$ `weight` | 1 x 1 | [[2]] |" in written


@pytest.mark.parametrize(
    ("formula", "tex"),
    [
        ("y = e^-x_i / sum_j e^-x_j", r"y = e^{-x_{i}} / \sum_{j} e^{-x_{j}}"),
        ("dx = g - x^ mean(g x^)", r"\mathrm{d}x = g - \hat{x} \operatorname{mean}(g \hat{x})"),
        ("h_(t-1)", "h_{t-1}"),
        ("dx1_a = (x1_a - x2_b)^2", r"\mathrm{d}x_{1,a} = (x_{1,a} - x_{2,b})^{2}"),
        ("dx = dy where y > 0", r"\mathrm{d}x = \mathrm{d}y \text{ where } y > 0"),
        ("dW = x over rows,  db = g", r"\mathrm{d}W = x \text{ over rows},\quad \mathrm{d}b = g"),
        ("1 + ... (32 terms)", r"1 + \ldots (32 \text{ terms})"),
        ("x = (-0.5) * 3e-05", r"x = (-0.5) \cdot 3 \cdot 10^{-5}"),
        ("m = beta1 m,  v = 1", r"m = \beta_{1} m,\quad v = 1"),
    ],
)  # fmt: skip
def test_formulas_in_latex(formula: str, tex: str) -> None:
    assert latex(formula) == tex


def test_nothing_stands_between_a_word_and_what_closes_it() -> None:
    assert ";terms</mtext><mo>)</mo>" in mathml("1 + ... (32 terms)")


def test_every_formula_can_be_set() -> None:
    for spec in SPECS:
        for formula in (spec.formula, spec.gradient):
            tex = latex(formula)
            assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}"), formula
            ET.fromstring(f"<p>{mathml(formula)}</p>".replace("&nbsp;", " "))  # is well-formed


NETS = """
import torch
from torch import nn
from manual_bp.explain import Setup

def tiny():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return Setup(model, (torch.ones(4, 2),), torch.ones(4, 1), optimizer=sgd)

def batch():
    return nn.Linear(2, 1), torch.ones(4, 2), torch.ones(4, 1)

def wrong():
    return 3

def fails():
    raise KeyError("weights")

def misfit():
    return nn.Linear(2, 1), torch.ones(4, 3), torch.ones(4, 1)
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return str(path)


def test_command_line(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", f"{nets}:tiny", "--only", "2", "--precision", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2.weight" in shown and "0.weight" not in shown
    assert "\x1b" not in shown  # no colours where it is no terminal
    assert main(["explain", f"{nets}:batch", "--view", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "Linear"
    for ending, start in {
        ".html": "<!doctype html>",
        ".md": "# ",
        ".json": "{",
        ".txt": "Seq",
    }.items():
        path = tmp_path / f"step{ending}"
        assert main(["explain", f"{nets}:tiny", "--out", str(path)]) == 0
        assert path.read_text(encoding="utf-8").startswith(start)
        assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NETS:wrong"], "returned an int"),
        (["NETS:fails"], "cannot be run: KeyError: 'weights'"),
        (["NETS:misfit"], r"Linear cannot run on inputs of shape (4, 3)"),
        (["NETS:tny"], "did you mean 'tiny'?"),
        (["NETS"], "which function"),
        (["no.such.module:f"], "cannot be imported"),
        (["no_such_lesson"], "there is no lesson 'no_such_lesson'"),
        (["NETS:tiny", "--only", "3"], "no operation stands in a layer '3'"),
        (["NETS:tiny", "--out", "step.pdf"], "tells no view"),
        (["NETS:tiny", "--out", "/no/such/place/step.md"], "cannot be written"),
        (["NETS:tiny", "--view", "video"], "invalid choice"),
        (["NETS:tiny", "--precision", "0"], "digits from 1 to 17"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    arguments: list[str], message: str, nets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *(a.replace("NETS", nets) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out


def test_a_page_is_not_for_a_terminal(
    nets: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["explain", f"{nets}:tiny", "--view", "html"]) == 0  # a pipe takes it
    assert capsys.readouterr().out.startswith("<!doctype html>")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["explain", f"{nets}:tiny", "--view", "html"]) == 2
    assert "--out page.html" in capsys.readouterr().err
    assert main(["explain", f"{nets}:tiny"]) == 0  # and the terminal has its own
    assert "forward" in capsys.readouterr().out
