"""Planted faults are named, healthy networks get no finding, and nothing is left changed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import manual_bp
from lightning_modules.networks import MLP
from manual_bp.explain.diagnosis.cures import CURES

from .healthy import NETWORKS, Healthy
from .planted import PLANTED, Planted

named = pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)


def _diagnosed(fault: Planted) -> manual_bp.Diagnosis:
    torch.manual_seed(0)
    model, inputs, rest = fault.build()
    return manual_bp.diagnose(model, *inputs, **rest)


def _sees(diagnosis: manual_bp.Diagnosis, fault: Planted) -> bool:
    return any(
        finding.where == fault.where
        and finding.operation in (fault.operation, finding.operation if not fault.operation else "")
        and all(part in finding.text for part in fault.says)
        for finding in diagnosis.of(fault.kind)
    )


@named
def test_a_planted_fault_is_named_where_it_is(fault: Planted) -> None:
    diagnosis = _diagnosed(fault)
    assert _sees(diagnosis, fault), diagnosis.text()
    if fault.alone:
        assert len(diagnosis) == 1, diagnosis.text()


@named
def test_it_is_named_under_by_hand_too(fault: Planted) -> None:
    if fault.name == "recurrent_weights_above_one":
        pytest.skip("by hand all steps of a sequence are one node, and no step is to be seen")
    with manual_bp.by_hand():
        diagnosis = _diagnosed(fault)
    assert _sees(diagnosis, fault), diagnosis.text()


def test_every_kind_of_finding_is_planted() -> None:
    assert {fault.kind for fault in PLANTED} == set(CURES)
    assert all(cure.text and cure.source for cure in CURES.values())


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_network_has_no_findings(build: Callable[[], Healthy], seed: int) -> None:
    torch.manual_seed(seed)
    network, done = build(), 0
    for steps in (0, 3, 60):
        for _ in range(steps - done):
            x, y = network.batch()
            network.optimizer.zero_grad()
            network.compute(x, y).backward()
            network.optimizer.step()
        done = steps
        x, y = network.batch()
        diagnosis = manual_bp.diagnose(
            network.model, x, target=y, loss=network.loss, optimizer=network.optimizer
        )
        assert diagnosis.healthy, f"after {steps} steps\n{diagnosis.text()}"


def _everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return copy.deepcopy(
        (
            model.state_dict(),
            [p.grad for p in model.parameters()],
            optimizer.state_dict(),
            torch.get_rng_state(),
            [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            [m.training for m in model.modules()],
        )
    )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def test_everything_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model: Any = MLP(nn, 12, (16, 16), 4, normalization="BatchNorm1d", dropout=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    x, y = torch.randn(32, 12), torch.randint(4, (32,))
    for _ in range(2):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()
    gradients = [p.grad for p in model.parameters()]
    kept, batch = _everything(model, optimizer), x.clone()
    assert manual_bp.diagnose(model, x, target=y, optimizer=optimizer).healthy
    assert _same(kept, _everything(model, optimizer))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(x, batch) and not torch.is_inference_mode_enabled()
    # ... and so where the model fails.
    with pytest.raises(ValueError, match="cannot run"):
        manual_bp.diagnose(model, x[:, :5], target=y, optimizer=optimizer)
    assert _same(kept, _everything(model, optimizer))


def test_the_numbers_are_those_of_the_step() -> None:
    torch.manual_seed(0)
    model: Any = MLP(nn, 12, (16,), 4)
    x, y = torch.randn(32, 12), torch.randint(4, (32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=300.0, momentum=0.9)
    (finding,) = manual_bp.diagnose(model, x, target=y, optimizer=optimizer).of("step too long")
    before = nn.functional.cross_entropy(model(x), y)
    before.backward()
    name, weights = finding.where, {n: p.detach().clone() for n, p in model.named_parameters()}
    promised = -300.0 * sum(float(p.grad.square().sum()) for p in model.parameters())
    optimizer.step()
    change = (model.get_parameter(name).detach() - weights[name]).norm() / weights[name].norm()
    assert finding.numbers["ratio"] == pytest.approx(float(change), rel=1e-5)
    assert finding.numbers["before"] == pytest.approx(before.item(), rel=1e-6)
    after = nn.functional.cross_entropy(model(x), y).item()
    assert finding.numbers["after"] == pytest.approx(after, rel=1e-5)
    assert finding.numbers["predicted"] == pytest.approx(promised, rel=1e-5)


def test_dead_units_are_counted() -> None:
    torch.manual_seed(0)
    model: Any = MLP(nn, 12, (16,), 4)
    with torch.no_grad():
        model.linear1.bias[:14] = -40
    x, y = torch.randn(32, 12), torch.randint(4, (32,))
    (finding,) = manual_bp.diagnose(model, x, target=y).of("dead units")
    off = (model.linear1(x) <= 0).all(0)
    assert (finding.numbers["dead"], finding.numbers["units"]) == (int(off.sum()), 16)
    assert finding.numbers["observations"] == 32


def test_the_gradient_that_vanishes_is_measured() -> None:
    torch.manual_seed(0)
    model: Any = MLP(nn, 12, (16,) * 8, 4, activation="Sigmoid")
    x, y = torch.randn(32, 12), torch.randint(4, (32,))
    (finding,) = manual_bp.diagnose(model, x, target=y).of("vanishing gradient")
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, y: Tensor) -> None:
            y.register_hook(lambda g: seen.update({name: g}))

        return hook

    for name in ("linear1", "output"):
        getattr(model, name).register_forward_hook(keep(name))
    nn.functional.cross_entropy(model(x), y).backward()
    assert finding.numbers["here"] == pytest.approx(float(seen["linear1"].norm()), rel=1e-5)
    assert finding.numbers["there"] == pytest.approx(float(seen["output"].norm()), rel=1e-5)


def test_a_mask_of_infinities_is_no_fault() -> None:
    """-inf in attention scores, as a constant, as a buffer and by masked_fill."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Linear(6, 6)
            self.mask: Tensor
            self.register_buffer("mask", torch.full((5, 5), -math.inf).triu(1))

        def forward(self, x: Tensor) -> Tensor:
            scores = x @ x.mT + self.mask
            scores = scores.masked_fill(torch.eye(5, dtype=torch.bool).roll(-1, 0), -math.inf)
            return torch.softmax(scores, -1) @ self.value(x)

    torch.manual_seed(0)
    x = torch.randn(4, 5, 6)
    assert not manual_bp.diagnose(Masked(), x, loss=lambda y: y[:, :-1].square().mean())


def test_a_weight_that_starts_at_zero_is_no_fault() -> None:
    """What lies before it has no gradient in the first step, and one in the second."""
    torch.manual_seed(0)
    model: Any = MLP(nn, 12, (16,), 4)
    nn.init.zeros_(model.output.weight)
    assert not manual_bp.diagnose(model, torch.randn(32, 12), target=torch.randint(4, (32,)))


def test_diagnosis_as_text_and_data() -> None:
    fault = next(f for f in PLANTED if f.name == "logarithm_of_zero")
    diagnosis = _diagnosed(fault)
    assert bool(diagnosis) and not diagnosis.healthy
    plain = diagnosis.text(width=80)
    assert "\x1b" not in plain and max(map(len, plain.splitlines())) <= 80
    data = json.loads(diagnosis.to_json())
    (finding,) = data["findings"]
    assert (finding["kind"], finding["operation"]) == (fault.kind, "log")
    assert finding["tensors"][0]["shape"] == [32, 8] and finding["tensors"][0]["low"] == 0
    assert data["loss"] == "nan"
    from manual_bp.explain.diagnosis.render import render

    assert "\x1b[1;31m" in render(diagnosis, colour=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "takes a torch.nn.Module, got int"),
        (
            (nn.Linear(2, 2), torch.ones(4, 3)),
            ValueError,
            r"cannot run on inputs of shape \(4, 3\)",
        ),
        ((nn.Linear(2, 2), torch.ones(4, 2)), ValueError, "the output is no loss"),
    ],
)
def test_bad_input(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        manual_bp.diagnose(*arguments)


def test_bad_optimizer_and_loss() -> None:
    x = torch.ones(4, 2)
    with pytest.raises(TypeError, match=r"optimizer is a torch.optim.Optimizer, got float"):
        manual_bp.diagnose(nn.Linear(2, 1), x, target=x[:, :1], optimizer=0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got str"):
        manual_bp.diagnose(nn.Linear(2, 1), x, loss="mse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one number"):
        manual_bp.diagnose(nn.Linear(2, 1), x, loss=lambda y: y)


def test_a_backward_pass_that_fails() -> None:
    """A number that the gradient needs is overwritten."""

    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x).exp()
            return y.add_(1).sum()

    with pytest.raises(ValueError, match="the backward pass cannot run: one of the variables"):
        manual_bp.diagnose(Overwritten(), torch.ones(4, 2))
