"""Reflection, with coordinates that torch can fold: at infinity its kernel reads out of bounds."""

from __future__ import annotations

import pytest
import torch

import manual_bp.functional as F
from manual_bp.spec import Draw


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_reflection_equals_autograd(mode: str, axes: int, corners: bool) -> None:
    if mode == "bicubic" and axes == 3:
        pytest.skip("torch has no cubic volumes")
    draw = Draw()
    sizes, places = ((3, 4), (2, 9)) if axes == 2 else ((2, 3, 1), (2, 9, 2))
    x, grid = draw(2, 3, *sizes), draw(2, *places, axes, scale=3.0)
    ends = torch.tensor([-5.0, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0], dtype=torch.float64)
    with torch.no_grad():
        grid[0].view(-1)[:7] = ends
    how = mode, "reflection", corners
    found = F.grid_sample(x, grid, *how)
    expected = torch.nn.functional.grid_sample(x, grid, *how)
    cotangent = draw.fixed(*expected.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, grid), cotangent),
        torch.autograd.grad(expected, (x, grid), cotangent),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_second_order_where_torch_has_none(mode: str) -> None:
    draw = Draw()
    x, grid = draw(1, 2, 3, 4), draw(1, 1, 2, 2, scale=0.5)
    call = lambda x, grid: F.grid_sample(x, grid, mode, "reflection", False)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, grid))
    assert torch.autograd.gradgradcheck(call, (x, grid))
