"""Attention: long sequences in blocks, dropout, and the Transformer that is made of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as native

import manual_bp
from manual_bp import attention_in_blocks
from manual_bp.layers.scaled_dot_product_attention import (
    scaled_dot_product_attention as attention,
)
from manual_bp.spec import Draw


def _mask(*shape: int) -> Tensor:
    return Draw(3).uniform(*shape) > 0.4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"is_causal": True, "enable_gqa": True},
        {"attn_mask": _mask(7, 11)},
        {"attn_mask": torch.zeros(7, 11, dtype=torch.bool)},
        {"attn_mask": Draw(4).fixed(2, 1, 1, 11), "scale": -0.3},
    ],
    ids=["plain", "causal", "grouped", "bool mask", "sees nothing", "float mask"],
)
def test_blocks_equal_the_whole(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of P computed again block by block, beside torch's own; first and second order."""
    monkeypatch.setattr(attention_in_blocks, "BLOCK", 3)
    monkeypatch.setattr(attention_in_blocks, "KEPT", 0)
    draw, heads = Draw(), 2 if options.get("enable_gqa") else 4
    inputs = draw(2, 4, 7, 5), draw(2, heads, 11, 5), draw(2, heads, 11, 3)
    g = draw.fixed(2, 4, 7, 3)

    def orders(f: Any) -> list[Tensor]:
        y = f(*inputs, **options)
        first = torch.autograd.grad(y, inputs, g, retain_graph=True)  # in blocks
        again = torch.autograd.grad(y, inputs, g, create_graph=True)  # as a whole
        loss = torch.stack([(t * t.cos()).sum() for t in again]).sum()
        second = torch.autograd.grad(loss, inputs)
        return [y, *first, *again, *second]

    torch.testing.assert_close(orders(attention), orders(native), rtol=1e-10, atol=1e-12)


def test_dropout_drops_what_torch_drops() -> None:
    draw = Draw()
    inputs = draw(2, 4, 5), draw(2, 6, 5), draw(2, 6, 3)

    def run(f: Any) -> list[Tensor]:
        torch.manual_seed(0)
        y = f(*inputs, dropout_p=0.4)
        g = Draw(1).fixed(*y.shape)
        first = torch.autograd.grad(y, inputs, g, create_graph=True)
        loss = torch.stack([t.square().sum() for t in first]).sum()
        return [y, *first, *torch.autograd.grad(loss, inputs)]

    torch.testing.assert_close(run(attention), run(native), rtol=1e-10, atol=1e-12)


def test_no_examples() -> None:
    q, k, v = (torch.zeros(0, 2, *s, requires_grad=True) for s in ((3, 4), (5, 4), (5, 6)))
    y, expected = attention(q, k, v), native(q, k, v)
    assert y.shape == expected.shape == (0, 2, 3, 6)
    g = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad(y, (q, k, v), g), torch.autograd.grad(expected, (q, k, v), g)
    )


@pytest.mark.parametrize("masked", [False, True])
def test_a_plain_transformer_trains_by_hand(masked: bool) -> None:
    torch.manual_seed(0)
    net = torch.nn.Transformer(8, 2, 2, 2, 16, 0.1, batch_first=True, dtype=torch.double)
    source, target = (torch.randn(2, n, 8, dtype=torch.double) for n in (5, 4))
    options: dict[str, Any] = {}
    if masked:
        options["tgt_mask"] = net.generate_square_subsequent_mask(4).double()
        options["tgt_is_causal"] = True
        options["src_key_padding_mask"] = torch.tensor([[0.0] * 5, [0.0] * 3 + [-1e9] * 2]).double()

    def gradients() -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(1)
        y = net(source, target, **options)
        return y, list(torch.autograd.grad(y, list(net.parameters()), torch.cos(y.detach())))

    _, expected = gradients()
    with manual_bp.by_hand():
        y, found = gradients()
    assert (report := manual_bp.audit(y)).all_by_hand, report
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_no_weights_are_made_where_none_are_asked_for() -> None:
    draw = Draw()
    net = manual_bp.nn.MultiheadAttention(4, 2, dtype=torch.double)
    y, weights = net(draw(3, 2, 4), draw(5, 2, 4), draw(5, 2, 4), need_weights=False)
    assert weights is None
    assert "AttentionFunction" in manual_bp.audit(y).by_hand
