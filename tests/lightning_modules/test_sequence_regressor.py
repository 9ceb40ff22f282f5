"""The recurrent network, its learner, and the two data modules made for it."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import manual_bp
from lightning_modules import SequenceRegressor
from lightning_modules.data import Adding, Sunspots
from lightning_modules.networks.recurrent import Recurrent

KINDS = ("RNN", "GRU", "LSTM")
SGD = partial(torch.optim.SGD, lr=0.1)


def network(kind: str, nn: Any = manual_bp.nn, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(nn, kind, in_features=2, hidden=4, **options).double()  # type: ignore[arg-type]


def gradients(net: Recurrent, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncate", [None, 1, 3, 7, 20])
@pytest.mark.parametrize("every_step", [False, True])
def test_by_hand_and_by_autograd_alike(kind: str, truncate: int | None, every_step: bool) -> None:
    x, found = draw(3, 7, 2), []
    cotangent = draw(3, 7, 1) if every_step else draw(3, 1)
    for nn in (manual_bp.nn, torch.nn):
        net = network(kind, nn, every_step=every_step)
        if nn is manual_bp.nn:
            with manual_bp.by_hand():
                answer = net(x, truncate)
            assert manual_bp.audit(answer).all_by_hand
        else:
            answer = net(x, truncate)
        assert answer.shape == cotangent.shape
        found.append((answer, gradients(net, (answer * cotangent).sum())))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_changes_the_gradient_alone(kind: str) -> None:
    net, x = network(kind), draw(3, 7, 2)
    whole = net(x)
    full = gradients(net, whole.square().sum())
    for truncate in (1, 3, 6, 7, 8):
        answer = net(x, truncate)
        torch.testing.assert_close(answer, whole, rtol=1e-12, atol=1e-14)
        found = gradients(net, answer.square().sum())
        assert torch.allclose(found, full, rtol=1e-10, atol=1e-12) is (truncate >= 7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truncated_gradient_is_that_of_the_last_steps(kind: str) -> None:
    net, x = network(kind), draw(3, 7, 2)
    with torch.no_grad():
        _, state = net.advance(x[:, :4])
    y, _ = net.advance(x[:, 4:], state)
    expected = gradients(net, net.output(y[:, -1]).square().sum())
    found = gradients(net, net(x, 3).square().sum())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_with_an_answer_at_every_step_each_piece_has_its_share() -> None:
    net, x = network("LSTM", every_step=True), draw(3, 7, 2)
    state, total = None, torch.zeros((), dtype=torch.float64)
    for piece in (x[:, :1], x[:, 1:4], x[:, 4:]):  # pieces of three, counted from the end
        y, state = net.advance(piece, state)
        state = tuple(s.detach() for s in state)
        total = total + net.output(y).square().sum()
    torch.testing.assert_close(
        gradients(net, net(x, 3).square().sum()), gradients(net, total), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unrolled_it_says_the_same_and_its_states_have_gradients(kind: str) -> None:
    net, x = network(kind), draw(3, 7, 2)
    answer, states = net.unrolled(x)
    torch.testing.assert_close(answer, net(x), rtol=1e-12, atol=1e-14)
    assert len(states) == 8
    found = torch.autograd.grad(answer.sum(), [state[0] for state in states])
    last = net.get_parameter("output.weight").expand(1, 3, 4)
    torch.testing.assert_close(found[-1], last)
    assert all(bool(g.any()) for g in found)


def test_the_radius_is_that_of_the_largest_eigenvalue() -> None:
    net = network("RNN", radius=1.5)
    values = torch.linalg.eigvals(net.get_parameter("recurrent.weight_hh_l0").detach())
    assert float(values.abs().max()) == pytest.approx(1.5, rel=1e-5)


def test_the_forget_bias_opens_the_forget_gate_alone() -> None:
    plain, opened = network("LSTM"), network("LSTM", forget_bias=3.0)
    for name, p in plain.named_parameters():
        q = opened.get_parameter(name)
        expected = torch.zeros_like(p)
        if name == "recurrent.bias_hh_l0":
            expected[4:8] = 3.0
        torch.testing.assert_close(q - p, expected)


def test_the_learner_trains_on_the_truncated_gradient(trainer: Callable[..., pl.Trainer]) -> None:
    data = Adding(steps=6, batch_size=5, train=5, validation=3, test=3)
    build = partial(Recurrent, kind="GRU", hidden=4)
    for truncate in (None, 2):
        torch.manual_seed(1)
        module = SequenceRegressor(build, SGD, backprop="manual", truncate=truncate)
        before = [p.detach().clone() for p in module.parameters()]
        net, (x, y) = module.network, data.parts.train
        loss = torch.nn.functional.mse_loss(net(x, truncate), y)
        expected = torch.autograd.grad(loss, list(net.parameters()))
        fit = trainer(max_steps=1)
        fit.fit(module, data)
        for p, start, gradient in zip(module.parameters(), before, expected, strict=True):
            torch.testing.assert_close(p.detach(), start - 0.1 * gradient)
        assert module.audit is not None and module.audit.all_by_hand
    (found,) = fit.test(module, data, verbose=False)
    x, y = data.parts.test
    assert found["test/loss"] == pytest.approx(
        float((module(x) - y).detach().square().mean()), rel=1e-5
    )


def test_truncated_it_trains_in_step_with_autograd(trainer: Callable[..., pl.Trainer]) -> None:
    module = SequenceRegressor(partial(Recurrent, hidden=4), SGD, backprop="both", truncate=2)
    fit = trainer(precision="64-true", max_steps=3)
    fit.fit(module, Adding(steps=5, batch_size=5, train=15, validation=3, test=3))
    (in_step,) = (c for c in fit.callbacks if type(c).__name__ == "InStep")  # type: ignore[attr-defined]
    in_step.finish()
    assert in_step.comparison.parted is None and in_step.comparison.losses


def test_adding() -> None:
    parts = Adding(steps=9, train=300, validation=20, test=10).parts
    assert [len(part.x) for part in parts] == [300, 20, 10]
    for x, y in parts:
        numbers, marks = x.unbind(-1)
        assert x.dtype == y.dtype == torch.float32
        assert bool(((numbers >= 0) & (numbers < 1)).all())
        assert bool(((marks == 0) | (marks == 1)).all() and (marks.sum(1) == 2).all())
        assert not marks[:, 4:].any()  # in the first half, to be remembered
        torch.testing.assert_close((numbers * marks).sum(1, keepdim=True), y)
    assert parts.train.x[..., 1].sum(0)[:4].min() > 100  # everywhere in it
    again = Adding(steps=9, train=300, validation=20, test=10, seed=5).parts
    torch.testing.assert_close(again, parts, rtol=0, atol=0)
    assert float((Adding().parts.train.y - 1).square().mean()) == pytest.approx(1 / 6, rel=0.05)


def test_sunspots_are_cut_in_the_order_of_time() -> None:
    sunspots = pytest.importorskip("statsmodels.datasets.sunspots", reason="needs statsmodels")
    table = sunspots.load_pandas().data
    series = dict(zip(table["YEAR"].astype(int), table["SUNACTIVITY"], strict=True))
    data = Sunspots(window=5)
    years = (range(1705, 1921), range(1921, 1956), range(1956, 2009))
    for (x, y), targets in zip(data.parts, years, strict=True):
        assert x.shape == (len(targets), 5, 1) and y.shape == (len(targets), 1)
        for row in (0, -1):
            expected = [series[targets[row] - lag] for lag in range(5, -1, -1)]
            found = torch.cat([x[row, :, 0], y[row]]) * data.deviation + data.mean
            np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    early = [value for year, value in series.items() if year <= 1920]
    assert data.mean == pytest.approx(np.mean(early))
    assert data.deviation == pytest.approx(np.std(early))


def test_sunspots_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'manual-bp\[sunspots\]'"):
        Sunspots().setup()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network("rnn"), "kind must be .* got 'rnn'"),
        (lambda: network("RNN", nonlinearity="Tanh"), "nonlinearity must be .* got 'Tanh'"),
        (lambda: Recurrent(torch.nn, hidden=0), "must be positive, got 2, 0 and 1"),
        (lambda: network("RNN", radius=-1.0), "radius must be a number >= 0 .* got -1.0"),
        (lambda: network("GRU", radius=1.0), "radius .* got 1.0 for GRU"),
        (lambda: network("RNN", forget_bias=1.0), "forget_bias is the LSTM's, got 1.0 for RNN"),
        (lambda: network("RNN")(draw(1, 3, 2), 0), "truncate must be positive, got 0"),
        (lambda: network("RNN")(draw(3, 2), 2), r"sequences .* got \(3, 2\)"),
        (lambda: network("RNN")(draw(3, 0, 2)), r"one step or more, got \(3, 0, 2\)"),
        (
            lambda: SequenceRegressor(Recurrent, SGD, truncate=0),
            "truncate must be positive or None, got 0",
        ),
        (lambda: Adding(steps=3), "steps must be 4 or more, got 3"),
        (lambda: Adding(test=0), "must be positive, got 6400, 500 and 0"),
        (lambda: Sunspots(window=0), "window must lie in 1..110, got 0"),
        (
            lambda: SequenceRegressor(Recurrent, SGD).loss_and_output(
                (torch.zeros(3, 4, 2), torch.zeros(3))
            ),
            r"shape of the answers, \(3, 1\), got \(3,\)",
        ),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
