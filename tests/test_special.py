"""Where special functions by hand and torch's own part: what the files say about it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import manual_bp
from manual_bp.spec import Draw

F: Any = manual_bp.functional


def _slope(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.autograd.grad(f(x).sum(), x)[0]


@pytest.mark.parametrize("name", ["igamma", "igammac", "zeta"])
def test_the_gradient_without_a_formula_is_refused_as_torch_refuses_it(name: str) -> None:
    a, x = Draw().values(1.5, 2.5), Draw().values(2.0, 0.5)
    native = getattr(torch, name, None) or getattr(torch.special, name)
    with pytest.raises(NotImplementedError) as expected:
        native(a, x).sum().backward()
    with pytest.raises(NotImplementedError) as found:
        getattr(F, name)(a, x).sum().backward()
    assert str(found.value) == str(expected.value)


def test_ldexp_with_negative_integers() -> None:
    """torch takes 2 to the power of an integer, which rounds 2^-3 to 0."""
    x, exponent = Draw()(4), torch.tensor([-3, -1, 0, 2])
    assert torch.equal(_slope(lambda x: F.ldexp(x, exponent), x), 2.0**exponent)
    assert gradcheck(lambda x: F.ldexp(x, exponent), (x,))


def test_frexp_of_tiny_numbers() -> None:
    """torch takes 2 to the power of the exponent in float32, which has no 2^-996."""
    x = Draw().values(1e-300, 3.0)
    mantissa, exponent = torch.frexp(x.detach())
    assert torch.equal(_slope(lambda x: F.frexp(x).mantissa, x), mantissa / x.detach())
    assert exponent[0] == -996


def test_log_ndtr_far_below_zero() -> None:
    """phi / Phi tends to -x from above; torch's own exponent cancels there."""
    x = Draw().values(-1e3, -1e6, -1e9)
    slope = _slope(F.log_ndtr, x)
    torch.testing.assert_close(slope, -x.detach() - 1 / x.detach(), rtol=1e-11, atol=0)


def test_copysign_has_a_second_derivative_at_zero() -> None:
    x = Draw().values(0.0, 2.0)
    (slope,) = torch.autograd.grad(F.copysign(x, -1.0).sum(), x, create_graph=True)
    assert not slope.requires_grad
    assert slope.tolist() == [0.0, -1.0]


def test_remainder_of_a_number() -> None:
    """``5 % x``, of which torch has no gradient."""
    x = Draw().values(1.5, -2.2)
    assert gradcheck(lambda x: F.remainder(5.0, x), (x,))
