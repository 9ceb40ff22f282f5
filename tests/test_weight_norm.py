"""Weight normalization: what the comparison with torch cannot tell."""

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.nn.utils.parametrizations import weight_norm as normalized

import manual_bp
from manual_bp.ops.weight_norm import weight_norm


@pytest.mark.parametrize(("v", "g", "dim"), [((4, 3), (4, 1), 0), ((2, 4, 3), (1, 1, 3), 2)])
def test_second_order(v: tuple[int, ...], g: tuple[int, ...], dim: int) -> None:
    direction = torch.randn(v, dtype=torch.float64, requires_grad=True)
    length = torch.randn(g, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda v, g: weight_norm(v, g, dim), (direction, length))


def test_a_parametrized_layer_is_by_hand() -> None:
    layer = normalized(torch.nn.Linear(4, 3))
    with manual_bp.by_hand():
        y = layer(torch.randn(2, 4))
    assert manual_bp.audit(y).all_by_hand


@pytest.mark.parametrize(("v", "g"), [((4, 3), (3, 1)), ((4, 3), (4,)), ((0, 3), (0, 1))])
def test_lengths_that_do_not_fit_are_refused(v: tuple[int, ...], g: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="weight_norm: "):
        weight_norm(torch.randn(v), torch.randn(g))
