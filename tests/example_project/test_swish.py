"""How a user's tests look: a decorator, or a call."""

import pytest
import torch
from swish import Swish, swish, swish_by_autograd

import manual_bp


@manual_bp.equivalent_to(swish_by_autograd, lambda: torch.randn(4, 8), lambda: torch.randn(()))
def test_swish(x, slope):
    return swish(x, slope)


@pytest.mark.parametrize("scale", [1.0, -2.0])
@manual_bp.equivalent_to(
    lambda x, scale: torch.nn.functional.silu(x) * scale, lambda: torch.randn(3, 5)
)
def test_swish_with_a_fixed_slope(x, scale):
    return swish(x, torch.ones((), dtype=x.dtype)) * scale


def test_swish_in_words():
    manual_bp.assert_equivalent(Swish.apply, swish_by_autograd, torch.randn(2, 3), torch.randn(()))
