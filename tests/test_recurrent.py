"""Recurrent nets: what the samples leave out, packed sequences above all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import manual_bp
from manual_bp.conformance import assert_equivalent
from manual_bp.layers.gru import gru
from manual_bp.layers.lstm import lstm
from manual_bp.layers.rnn import rnn_relu, rnn_tanh
from manual_bp.recurrent import checked
from manual_bp.spec import Draw

KINDS: dict[str, tuple[Any, Any, int]] = {
    "rnn_tanh": (rnn_tanh, checked(torch.rnn_tanh, 1), 1),
    "rnn_relu": (rnn_relu, checked(torch.rnn_relu, 1), 1),
    "gru": (gru, checked(torch.gru, 3), 3),
    "lstm": (lstm, checked(torch.lstm, 4), 4),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def _states(draw: Draw, kind: str, *shape: int) -> Any:
    return (draw(*shape), draw(*shape)) if kind == "lstm" else draw(*shape)


def _weights(draw: Draw, gates: int, x: int, h: int, count: int) -> list[Tensor]:
    shapes = ((gates * h, x), (gates * h, h), (gates * h,), (gates * h,)) * count
    return [draw(*shape, scale=0.3) for shape in shapes]


@kinds
def test_packed_sequences(kind: str) -> None:
    """Sequences of lengths 3, 2 and 1, in both directions, through two layers."""
    manual, native, gates = KINDS[kind]
    draw, sizes = Draw(), torch.tensor([3, 2, 1])
    weights = _weights(draw, gates, 3, 2, 2) + _weights(draw, gates, 4, 2, 2)
    assert_equivalent(
        lambda x, hx, w: manual(x, sizes, hx, w, True, 2, 0.0, True, True),
        lambda x, hx, w: native(x, sizes, hx, w, True, 2, 0.0, True, True),
        *(draw(6, 3), _states(draw, kind, 4, 3, 2), weights),
        probes=("example", "frozen inputs", "cotangents", "layouts", "second order", "float32"),
    )


@kinds
def test_several_layers(kind: str) -> None:
    manual, native, gates = KINDS[kind]
    draw = Draw()
    weights = _weights(draw, gates, 3, 2, 2) + _weights(draw, gates, 4, 2, 2)
    assert_equivalent(
        lambda x, hx, w: manual(x, hx, w, True, 2, 0.0, True, True, False),
        lambda x, hx, w: native(x, hx, w, True, 2, 0.0, True, True, False),
        *(draw(3, 2, 3), _states(draw, kind, 4, 2, 2), weights),
        probes=("example", "cotangents", "second order"),
    )


@pytest.mark.parametrize("module", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
def test_by_hand_takes_packed_sequences_in_any_order(module: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    net = module(3, 4, 2, bidirectional=True, dropout=0.5).double()
    sequences = [torch.randn(n, 3, dtype=torch.double, requires_grad=True) for n in (2, 5, 3)]
    wanted = [*sequences, *net.parameters()]
    cotangent = Draw(1).fixed(10, 8)

    def gradients() -> tuple[Any, list[Tensor]]:
        torch.manual_seed(1)
        y, _ = net(pack_sequence(sequences, enforce_sorted=False))
        return y, list(torch.autograd.grad(y.data, wanted, cotangent))

    _, expected = gradients()
    with manual_bp.by_hand():
        y, found = gradients()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert any(name.endswith("Function") for name in manual_bp.audit(y.data).by_hand)


@kinds
def test_shapes_on_which_torch_crashes_are_refused(kind: str) -> None:
    manual, _, gates = KINDS[kind]
    draw = Draw()
    hx, weights = _states(draw, kind, 1, 2, 4), _weights(draw, gates, 3, 4, 1)
    call = (True, 1, 0.0, True, False, False)
    with pytest.raises(RuntimeError, match="Expected weights"):
        manual(draw(5, 2, 3), hx, [draw(1, 3), *weights[1:]], *call)
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        manual(draw(5, 3, 3), hx, weights, *call)
    with pytest.raises(RuntimeError, match="larger than 0"):
        manual(draw(0, 2, 3), hx, weights, *call)
    with pytest.raises(RuntimeError, match="never grow"):
        sizes = torch.tensor([1, 2])
        manual(draw(3, 3), sizes, hx, weights, True, 1, 0.0, True, False)
