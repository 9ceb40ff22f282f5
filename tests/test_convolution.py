"""What the generated proof leaves out of convolutions: odd "same" padding, three forms of dW."""

from __future__ import annotations

import warnings

import pytest
import torch

import manual_bp.functional as F
from manual_bp.convolutional import Geometry, by_columns, by_convolution, by_products
from manual_bp.spec import Draw


@pytest.mark.parametrize("taps", [(2, 3), (3, 4), (4, 2)])
def test_same_padding_that_is_odd(taps: tuple[int, int]) -> None:
    draw = Draw()
    x, weight = draw(2, 3, 5, 6), draw(4, 3, *taps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a copy
        expected = torch.nn.functional.conv2d(x, weight, padding="same")
    found = F.conv2d(x, weight, padding="same")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    cotangent = draw.fixed(*expected.shape)
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, weight), cotangent),
        torch.autograd.grad(expected, (x, weight), cotangent),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("taps", "stride", "padding", "dilation"),
    [
        ((3, 2), (1, 1), (0, 0), (1, 1)),
        ((2, 3), (2, 3), (1, 2), (3, 1)),
        ((1, 1), (2, 1), (0, 1), (1, 1)),
    ],
)
def test_forms_of_the_weight_gradient_agree(
    taps: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    draw = Draw()
    x, weight = draw.fixed(3, 4, 8, 9), draw(8, 4 // groups, *taps)
    y = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    grad_y = draw.fixed(*y.shape)
    (expected,) = torch.autograd.grad(y, weight, grad_y)
    geometry = Geometry(taps, stride, padding, dilation, groups)
    forms = [by_convolution, by_columns]
    if groups == 4:
        forms.append(by_products)
    for form in forms:
        torch.testing.assert_close(form(x, grad_y, geometry), expected, rtol=1e-10, atol=1e-12)


def test_a_single_place_compiles_in_a_layout_of_its_own() -> None:
    """What follows reads the gradient as channels last, which a 1 x 1 output may be or not."""
    torch.manual_seed(0)
    x = torch.randn(3, 8, 2, 2, dtype=torch.float64).requires_grad_()
    weight = torch.randn(10, 8, 2, 2, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.linear(x.permute(0, 2, 3, 1), weight[:8, :, 0, 0])
        y = F.conv2d(y.permute(0, 3, 1, 2), weight, stride=2)
        return (y * y).sum((2, 3)).sin()

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    cotangent = Draw(1).fixed(3, 10)
    found, expected = (torch.autograd.grad(g(x), x, cotangent) for g in (compiled, f))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
