"""audit_model() and `python -m manual_bp audit`: what is right passes, what is wrong is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import manual_bp
from manual_bp.__main__ import main
from manual_bp.model_audit import audit_model

from .models import TOKENS, Net

MODELS = str(Path(__file__).with_name("models.py"))


class WrongTanh(torch.autograd.Function):
    """1 - y in place of 1 - y^2."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.tanh(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y * (1 - ctx.saved_tensors[0])


def wrong_tanh(x: Tensor) -> Tensor:
    return WrongTanh.apply(x)


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def test_a_model_that_is_right(model: Net) -> None:
    result = audit_model(model, (TOKENS,))
    assert result.agrees and result.report.all_by_hand
    assert {p.name for p in result.parameters} == {n for n, _ in model.named_parameters()}
    assert max(p.error for p in result.parameters) < 1e-13  # float32 on the way is gone round
    assert result.files["TanhFunction"] == "manual_bp/layers/tanh.py"
    assert {call.name for call in result.calls} >= {"tanh", "dropout", "batch_norm", "setitem"}
    text = str(result)
    assert "by hand" in text and "manual_bp/layers/tanh.py" in text
    assert next(model.parameters()).dtype == torch.float32  # a copy was audited
    assert model.norm.num_batches_tracked == 0


def test_a_wrong_gradient_is_found_in_its_place(model: Net) -> None:
    with manual_bp.register(torch.tanh, wrong_tanh):
        result = audit_model(model, (TOKENS,))
    assert not result.agrees
    first = result.differing[0]
    assert (first.name, first.place.module) == ("wrong_tanh", "layers.1")
    assert first.place.source.endswith("models.py:18")
    assert first.gradient_error > 1e-3 and first.output_error == 0.0
    assert [call.name for call in result.differing] == ["wrong_tanh"] * 2
    wrong = {p.name for p in result.wrong}
    assert "layers.1.up.weight" in wrong
    assert "layers.1.down.weight" not in wrong  # nearer to the loss
    assert "first operation whose gradient differs" in str(result)


def test_a_gradient_that_raises_is_found(model: Net) -> None:
    def refuses(x: Tensor) -> Tensor:
        raise RuntimeError("not today")

    with manual_bp.register(torch.tanh, refuses):
        result = audit_model(model, (TOKENS,))
    assert not result.agrees
    assert result.differing[0].trouble == "RuntimeError: not today"
    assert "not today" in result.failure
    assert "raised    RuntimeError: not today" in str(result)


def test_modules_of_this_library_are_compared_with_torchs() -> None:
    with manual_bp.register(torch.tanh, wrong_tanh):
        model = nn.Sequential(manual_bp.nn.Linear(3, 4), manual_bp.nn.Tanh())
        result = audit_model(model, (torch.ones(2, 3),))
    assert not result.reference_by_hand
    assert {call.name for call in result.calls} == {"linear", "wrong_tanh"}


def test_what_the_model_does_by_hand_itself_is_said() -> None:
    class Own(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return manual_bp.functional.relu(super().forward(x))

    result = audit_model(Own(3, 3), (torch.ones(2, 3),))
    assert result.reference_by_hand == ("ReLUFunction",)
    assert "by hand in the reference too" in str(result)


def test_what_autograd_keeps_is_placed(model: Net) -> None:
    result = audit_model(model, (TOKENS,), only={"linear", "tanh"})
    assert result.agrees and not result.report.all_by_hand
    assert {call.name for call in result.calls} == {"linear", "tanh"}
    assert "left to autograd" in str(result)
    assert "layers.1.norm" in str(result)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", f"{MODELS}:with_inputs"]) == 0
    assert "gradients are autograd's" in capsys.readouterr().out
    assert main(["audit", f"{MODELS}:with_named_inputs", "--json", "--eval"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["agrees"] and result["all_by_hand"]
    assert not any(o["name"] == "DropoutFunction" for o in result["operations"])
    with manual_bp.register(torch.tanh, wrong_tanh):
        given = ["--input", "randint(9, (2, 5))", "--kwarg", "mask=ones(2, 5, 1)"]
        assert main(["audit", f"{MODELS}:Net", *given, "--json"]) == 1
    first = json.loads(capsys.readouterr().out)["differing"][0]
    assert first["module"] == "layers.1" and first["manual"].endswith("wrong_tanh")
    assert main(["audit", f"{MODELS}:with_inputs", "--only", "tanh", "--strict", "--all"]) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([f"{MODELS}:Nett"], "did you mean 'Net'"),
        ([f"{MODELS}:Net"], "--input is missing"),
        ([f"{MODELS}:not_a_model"], "returns a str, not a model"),
        ([f"{MODELS}:Block", "--input", "randn(2, 5)"], "cannot be audited with float32 2x5"),
        ([f"{MODELS}:Block", "--input", "randn(2, 6)", "--only", "linaer"], "mean 'linear'"),
        ([f"{MODELS}:Block", "--input", "rnadn(2)"], "has no value"),
        ([f"{MODELS}:Net", "--kwarg", "tokens"], "--kwarg wants NAME=VALUE"),
        ([f"{MODELS}:restless"], "another result when it is run again"),
        (["torch.nn:Linear"], "needs arguments"),
        ([], "required: MODEL"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *given]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and not captured.out
    assert captured.err.count("\n") == 1


def test_a_view_that_is_modified_goes_through() -> None:
    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            y[:, 0] *= 2
            return y

    result = audit_model(Net(3, 3), (torch.ones(2, 3),))
    assert result.agrees
    assert any("CopySlices" in name for name in result.report.autograd)
