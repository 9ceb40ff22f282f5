"""The proof can fail: errors planted in right gradients must all be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from manual_bp.conformance import check
from manual_bp.conformance.purity import NotByHand, only_by_hand
from manual_bp.layers import SPECS
from manual_bp.spec import Draw

Change = Callable[[Tensor], Tensor]

ERRORS: dict[str, Change] = {
    "a factor": lambda g: g * 1.000001,
    "the sign": lambda g: -g,
    "one element": lambda g: torch.where(torch.arange(g.numel()).view_as(g) == 0, g * 1.01, g),
    "zeros": torch.zeros_like,
    "the rows exchanged": lambda g: g.flip(0),
}


class Planted(torch.autograd.Function):
    """Passes a value on, and changes its gradient."""

    @staticmethod
    def forward(x: Tensor, change: Change) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.change = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        return ctx.change(grad_y), None


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["linear", "layer_norm", "relu", "add"])
def test_an_error_in_a_gradient_is_seen(name: str, error: str) -> None:
    spec = next(spec for spec in SPECS if spec.name == name)
    s = next(iter(spec.samples(Draw())))

    def wrong(x: Any, *rest: Any) -> Any:
        return spec.manual(Planted.apply(x, ERRORS[error]), *rest, **s.kwargs)

    def right(*args: Any) -> Any:
        return spec.native(*args, **s.kwargs)

    assert not check(wrong, right, *s.args).passed


def test_a_native_kernel_is_seen() -> None:
    x = Draw()(4, 3)
    y, cotangent = torch.nn.functional.gelu(x), Draw(1).fixed(4, 3)
    with pytest.raises(NotByHand, match="gelu_backward"), only_by_hand():
        torch.autograd.grad(y, x, cotangent)


class Nested(torch.autograd.Function):
    """Lets autograd do its work."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(x.exp(), x, grad_y)[0]


def test_nested_autograd_is_seen() -> None:
    x = Draw()(4, 3)
    y, cotangent = Nested.apply(x), Draw(1).fixed(4, 3)
    with pytest.raises(NotByHand, match="graph of its own"), only_by_hand():
        torch.autograd.grad(y, x, cotangent)
