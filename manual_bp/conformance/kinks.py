"""Where a function of one number has corners: found by looking, not by knowing."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.run import Raised

__all__ = ["corners"]

_REACH = 25.0
_POINTS = 4001
_MOST = 12


def corners(bench: Bench, leaf: int) -> list[float]:
    """The numbers on both sides of every jump in the slope of an elementwise reference.

    The slope is taken on a grid; between neighbours where it jumps, the jump is closed in on until
    the two sides are neighbouring floating-point numbers. Functions that do not take a plain row
    of numbers for this input, or mix its elements, have none.

    Args:
        bench: Of the check.
        leaf: The input that is varied.
    """
    if len(bench.call.floating) != 1 or bench.call.leaves[leaf].is_complex():
        return []
    slope = partial(_slope, bench, leaf)
    grid = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    try:
        at = slope(grid)
        if at.shape != grid.shape or not torch.equal(slope(grid[:7]), at[:7]):
            return []
    except (LeftOut, Raised):
        return []
    found: list[float] = []
    for left, right in _jumps(grid, at):
        low, high = _close_in(slope, left, right)
        found += [low, high]
    return found


def _slope(bench: Bench, leaf: int, x: Tensor) -> Tensor:
    call = bench.call.with_leaf(leaf, x.to(bench.call.leaves[leaf])).with_needs([leaf])
    forward = bench.refer(call)
    outputs = [y for y in forward.outputs if y.requires_grad]
    if len(outputs) != 1 or outputs[0].shape != x.shape:
        raise LeftOut("it is not elementwise")
    grad = forward.backward(
        [torch.ones_like(y) if y is outputs[0] else None for y in forward.outputs]
    )[leaf]
    assert grad is not None
    return grad.double()


def _jumps(grid: Tensor, at: Tensor) -> list[tuple[float, float]]:
    """Neighbours on the grid between which the slope changes much more than around them."""
    change = at.diff().abs().nan_to_num(0.0)
    around = torch.maximum(change.roll(1), change.roll(-1))
    around[0], around[-1] = change[1], change[-2]
    # A jump beside another jump is one of a pair: look two steps away as well.
    further = torch.minimum(change.roll(2), change.roll(-2))
    jump = (change > 1e-9) & ((change > 8 * around) | (change > 8 * further) & (change > 1e-6))
    places = jump.nonzero().flatten()[:_MOST].tolist()
    return [(float(grid[i]), float(grid[i + 1])) for i in places]


def _close_in(slope: partial[Tensor], low: float, high: float) -> tuple[float, float]:
    while True:
        inner = torch.linspace(low, high, 65, dtype=torch.float64).unique()
        if len(inner) < 4:
            return float(inner[0]), float(inner[-1])
        change = slope(inner).diff().abs()
        worst = int(change.argmax())
        nearer = float(inner[worst]), float(inner[worst + 1])
        if nearer == (low, high):
            return nearer
        low, high = nearer
