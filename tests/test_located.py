"""located(): audit() tells where in a model an operation comes from."""

from __future__ import annotations

import inspect
import threading
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import manual_bp
from manual_bp.located import place_of
from manual_bp.spec import Draw


class Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3), Gated()) for _ in range(2)])
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        x[0] = 0.0
        return self.head(x)


X = Draw(3, torch.float32).fixed(5, 3)


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def _line(of: object, text: str) -> str:
    lines, first = inspect.getsourcelines(of)  # type: ignore[arg-type]
    at = next(i for i, line in enumerate(lines) if text in line)
    return f"tests/test_located.py:{first + at}"


def test_what_is_left_to_autograd_is_named_with_its_place(model: Net) -> None:
    with manual_bp.by_hand(only={"linear", "mul", "setitem"}), manual_bp.located():
        report = manual_bp.audit(model(X))
    assert not report.all_by_hand
    places = report.places["SigmoidBackward0"]
    assert places.total() == 2
    assert [place.module for place in sorted(places)] == ["layers.0.1", "layers.1.1"]
    assert {place.source for place in places} == {_line(Gated, "torch.sigmoid")}
    (setting,) = report.places["SetItemFunction"]
    assert (setting.module, setting.call) == ("Net", "torch.Tensor.__setitem__")
    linears = {place.module for place in report.places["LinearFunction"]}
    assert linears == {"layers.0.0", "layers.1.0", "head"}
    assert _line(Gated, "torch.sigmoid") in str(report)
    assert "layers.1.1" in str(report) and "head" not in str(report)


def test_a_native_model_can_be_located(model: Net) -> None:
    with manual_bp.located():
        report = manual_bp.audit(model(X))
    assert report.places["AddmmBackward0"].total() == 3
    assert "head, torch.nn.functional.linear at tests/test_located.py" in str(report)


def test_without_it_nothing_is_noted_and_the_way_is_shown(model: Net) -> None:
    report = manual_bp.audit(model(X))
    assert not report.places
    assert "located()" in str(report)
    with manual_bp.by_hand():
        y = torch.relu(X.clone().requires_grad_())
    assert place_of(y.grad_fn) is None
    assert "located()" not in str(manual_bp.audit(y))


def test_a_composed_call_is_one_place() -> None:
    x = Draw(3).fixed(2, 3, 4).requires_grad_()
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double()
    with manual_bp.by_hand(), manual_bp.located():
        report = manual_bp.audit(attention(x, x, x)[0])
    calls: Counter[str] = Counter()
    for places in report.places.values():
        for place, count in places.items():
            calls[place.module] += count
    assert calls == {"MultiheadAttention": report.by_hand.total()}


def test_an_exception_and_other_threads_leave_nothing_behind(model: Net) -> None:
    context = manual_bp.located()
    with pytest.raises(RuntimeError), context:
        model(X[:, :2])
    assert not context._modules
    assert not nn.modules.module._global_forward_pre_hooks
    with context:
        other = threading.Thread(target=lambda: model(X))
        other.start()
        other.join()
        assert not context._modules
        with context:  # the same again, inside itself
            y = model.head(X)
    assert place_of(y.grad_fn).module == "Linear"  # type: ignore[union-attr]
    assert not nn.modules.module._global_forward_hooks


def test_compiled_calls_go_through(model: Net) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.relu(x) * 2, fullgraph=True, backend="aot_eager")
    x = X.clone().requires_grad_()
    with manual_bp.by_hand(), manual_bp.located():
        y = compiled(x)
    assert torch.equal(y, torch.relu(x) * 2)
