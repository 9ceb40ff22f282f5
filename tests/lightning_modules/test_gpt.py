import pytest
import torch

import manual_bp
from lightning_modules.networks import GPT


@pytest.mark.parametrize("training", [True, False])
def test_both_namespaces_give_one_network(training: bool) -> None:
    made = []
    for nn in (manual_bp.nn, torch.nn):
        torch.manual_seed(0)
        made.append(GPT(nn, tokens=7, context=5, width=6, heads=2, dropout=0.2).double())
        made[-1].train(training)
    manual, native = made
    torch.testing.assert_close(manual.state_dict(), native.state_dict(), rtol=0, atol=0)
    tokens = torch.randint(7, (3, 4))
    torch.manual_seed(1)
    with manual_bp.by_hand():
        by_hand = manual(tokens)
    torch.manual_seed(1)
    by_autograd = native(tokens)
    assert by_hand.shape == (3, 4, 7)
    assert manual_bp.audit(by_hand).all_by_hand
    torch.testing.assert_close(by_hand, by_autograd, rtol=1e-10, atol=1e-12)
    cotangent = torch.randn_like(by_hand)
    by_hand.backward(cotangent)
    by_autograd.backward(cotangent)
    for (name, p), q in zip(manual.named_parameters(), native.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_no_position_sees_a_later_one() -> None:
    torch.manual_seed(0)
    model = GPT(torch.nn, tokens=7, context=5, width=6, heads=3)
    tokens = torch.randint(7, (1, 5))
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % 7
    difference = (model(tokens) - model(other)).abs().amax(-1)[0]
    assert bool((difference[:3] == 0).all())
    assert bool((difference[3:] > 0).all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 10, "heads": 4}, "width a multiple of heads, got 64, 32, 10, 4 and 2"),
        ({"blocks": 0}, "must be positive"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_sizes_that_make_no_network_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT(torch.nn, **arguments)  # type: ignore[arg-type]


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="6 tokens is longer than the context, 5"):
        GPT(torch.nn, context=5)(torch.zeros(1, 6, dtype=torch.int64))
