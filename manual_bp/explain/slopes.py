"""Local derivatives: how much one element of an output moves with its element of the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from manual_bp.explain.explanation import Operation
from manual_bp.explain.record import Edge, Recorder
from manual_bp.explain.symbols import spec_of

__all__ = ["SATURATED", "slopes"]

SATURATED = 0.01
"""Below this magnitude a slope that is not 0 counts as saturated."""


def slopes(recorder: Recorder) -> None:
    """Fill in the slopes of a forward pass whose graph is still whole, and what they tell.

    A cotangent of ones pulled back through the operation gives the slopes, if the operation is
    element by element. Whether it is, a second, random cotangent tells: it must come back
    multiplied by those slopes.
    """
    recorder.listening = False
    for operation, (edges_in, edges_out) in zip(recorder.operations, recorder.edges, strict=True):
        wanted = [s for s in operation.outputs if s.wanted]
        if len(operation.outputs) != 1 or len(wanted) != 1 or edges_out[0] is None:
            continue
        y = wanted[0].value
        for symbol, edge in zip(operation.inputs, edges_in, strict=True):
            alike = symbol.value.shape == y.shape or symbol.value.numel() == y.numel() == 1
            if edge is not None and alike and symbol.value.dtype == y.dtype and y.numel() > 0:
                symbol.slope = _slope(edges_out[0], edge, y)
        _activation(operation)
    recorder.listening = True


def _slope(start: Edge, end: Edge, y: Tensor) -> Tensor | None:
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(y.shape, generator=generator, dtype=torch.float64) + 0.5
    random = random.to(y.device, y.dtype)

    def pulled_back(cotangent: Tensor) -> Any:
        try:
            (g,) = torch.autograd.grad(
                (GradientEdge(*start),),
                (GradientEdge(*end),),
                (cotangent,),
                retain_graph=True,
                allow_unused=True,
            )
        except RuntimeError:  # a tensor that the backward needs was changed since
            return None
        return g

    slope, back = pulled_back(torch.ones_like(y)), pulled_back(random)
    if slope is None or back is None:
        return None
    expected = slope * random.reshape(slope.shape)
    close = torch.finfo(y.dtype).eps ** 0.5
    if torch.allclose(back, expected, rtol=close, atol=0.0, equal_nan=True):
        return slope.detach()
    return None


def _activation(operation: Operation) -> None:
    """The share of dead and saturated elements and units, where the operation is an activation."""
    spec = spec_of(operation.name)
    if spec is None or spec.random or not spec.file.startswith("manual_bp/layers/"):
        return
    wanted = [s for s in operation.inputs if s.wanted]
    if len(wanted) != 1 or (slope := wanted[0].slope) is None or slope.shape != wanted[0].shape:
        return
    none = slope == 0
    operation.dead = float(none.double().mean())
    operation.saturated = float(((slope.abs() < SATURATED) & ~none).double().mean())
    # Units lie along the second axis of tables and images, along the last of sequences.
    axis = slope.dim() - 1 if slope.dim() in (0, 1, 3) else 1
    others = [i for i in range(slope.dim()) if i != axis]
    units = none.all(others) if others else none
    operation.dead_units = float(units.double().mean())
