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


def _gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of x by a random cotangent of ``f(x)``, and that cotangent."""
    y = f(x)
    g = Draw(1).fixed(*y.shape)
    return torch.autograd.grad(y, x, g)[0], g


@pytest.mark.parametrize("name", ["igamma", "igammac", "zeta"])
def test_the_gradient_without_a_formula_is_refused_as_torch_refuses_it(name: str) -> None:
    a, x = Draw().values(1.5, 2.5), Draw().values(2.0, 0.5)
    native = getattr(torch, name, None) or getattr(torch.special, name)
    g = Draw(1).fixed(2)
    with pytest.raises(NotImplementedError) as expected:
        native(a, x).backward(g)
    with pytest.raises(NotImplementedError) as found:
        getattr(F, name)(a, x).backward(g)
    assert str(found.value) == str(expected.value)


def test_ldexp_with_negative_integers() -> None:
    """torch takes 2 to the power of an integer, which rounds 2^-3 to 0."""
    x, exponent = Draw()(4), torch.tensor([-3, -1, 0, 2])
    grad_x, g = _gradient(lambda x: F.ldexp(x, exponent), x)
    assert torch.equal(grad_x, g * 2.0**exponent)
    assert gradcheck(lambda x: F.ldexp(x, exponent), (x,))


def test_frexp_of_tiny_numbers() -> None:
    """torch takes 2 to the power of the exponent in float32, which has no 2^-996."""
    x = Draw().values(1e-300, 3.0)
    mantissa, exponent = torch.frexp(x.detach())
    grad_x, g = _gradient(lambda x: F.frexp(x).mantissa, x)
    assert torch.equal(grad_x, g * (mantissa / x.detach()))
    assert exponent[0] == -996


def test_log_ndtr_far_below_zero() -> None:
    """phi / Phi tends to -x from above; torch's own exponent cancels there."""
    x = Draw().values(-1e3, -1e6, -1e9)
    grad_x, g = _gradient(F.log_ndtr, x)
    torch.testing.assert_close(grad_x, g * (-x.detach() - 1 / x.detach()), rtol=1e-11, atol=0)


def test_copysign_has_a_second_derivative_at_zero() -> None:
    x = Draw().values(0.0, 2.0)
    g = Draw(1).fixed(2)
    (grad_x,) = torch.autograd.grad(F.copysign(x, -1.0), x, g, create_graph=True)
    assert not grad_x.requires_grad
    assert grad_x.tolist() == [0.0, -g[1].item()]


def test_remainder_of_a_number() -> None:
    """``5 % x``, of which torch has no gradient."""
    x = Draw().values(1.5, -2.2)
    assert gradcheck(lambda x: F.remainder(5.0, x), (x,))
