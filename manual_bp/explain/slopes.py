"""Local derivatives: how much one element of an output moves with its element of the input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manual_bp.explain.operation import Operation
from manual_bp.explain.record import Recorder, Trace
from manual_bp.explain.symbols import spec_of

__all__ = ["SATURATED", "slopes"]

SATURATED = 0.01
"""Below this magnitude a slope that is not 0 counts as saturated."""


def slopes(recorder: Recorder) -> None:
    """Fill in the slopes of a forward pass whose graph is still whole, and what they tell.

    A cotangent of ones pulled back through the operation gives the slopes, if the operation is
    element by element. Whether it is, a second, random cotangent tells: it must come back
    multiplied by those slopes. Nothing but the nodes of the operation is run for that.
    """
    for operation, trace in zip(recorder.operations, recorder.traces, strict=True):
        if len(operation.outputs) != 1 or trace.ends[0] is None:
            continue
        y = operation.outputs[0].value
        if not any(_alike(s.value, y) for s in operation.inputs if s.wanted):
            continue
        generator = torch.Generator().manual_seed(0)
        random = torch.rand(y.shape, generator=generator, dtype=torch.float64) + 0.5
        random = random.to(y.device, y.dtype)
        try:
            slope = _pulled_back(trace, torch.ones_like(y))
            back = _pulled_back(trace, random)
        except Exception:  # a saved tensor was changed since; somebody's backward is particular
            continue
        close = torch.finfo(y.dtype).eps ** 0.5
        for symbol in operation.inputs:
            if id(symbol) not in slope or not _alike(symbol.value, y):
                continue
            expected = slope[id(symbol)] * random.reshape(symbol.shape)
            if torch.allclose(back[id(symbol)], expected, close, atol=0.0, equal_nan=True):
                symbol.slope = slope[id(symbol)]
        _activation(operation)


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether one could be computed from the other element by element."""
    same = x.shape == y.shape or x.numel() == y.numel() == 1
    return same and x.dtype == y.dtype and x.numel() > 0


@torch.no_grad()
def _pulled_back(trace: Trace, cotangent: Tensor) -> dict[int, Tensor]:
    """What the operation hands to each input, by the identity of its Symbol."""
    assert trace.ends[0] is not None
    node, number = trace.ends[0]
    waiting: dict[Any, dict[int, Tensor]] = {node: {number: cotangent}}
    found: dict[int, Tensor] = {}
    # A node made later is nearer to the output.
    for node in sorted(trace.nodes, key=lambda node: node._sequence_nr(), reverse=True):
        if node not in waiting:
            continue
        handed = _run(node, waiting[node])
        for slot, symbol in trace.slots.get(node, ()):
            if (g := handed.get(slot)) is not None:
                found[id(symbol)] = found[id(symbol)] + g if id(symbol) in found else g.clone()
        for slot, (following, number) in enumerate(node.next_functions):
            if following in trace.nodes and (g := handed.get(slot)) is not None:
                into = waiting.setdefault(following, {})
                into[number] = into[number] + g if number in into else g
    return found


def _run(node: Any, arrived: dict[int, Tensor]) -> dict[int, Tensor | None]:
    """Run one node of a graph; the gradients that it returns, by their slot."""
    wanted = [slot for slot, (following, _) in enumerate(node.next_functions) if following]
    if not hasattr(node, "_forward_cls"):
        given = [arrived.get(i) for i in range(len(node._input_metadata))]
        returned = node(*given)
        returned = returned if isinstance(returned, tuple) else (returned,)
        return {slot: returned[slot] for slot in wanted}
    given = [
        arrived[i]
        if i in arrived
        else torch.zeros(about.shape, dtype=about.dtype, device=about.device)
        for i, about in enumerate(node._input_metadata)
    ]
    returned = node.apply(*given)
    returned = returned if isinstance(returned, tuple) else (returned,)
    # One for each argument, tensor or not, while slots are counted over the tensors.
    asked = [i for i, needed in enumerate(node.needs_input_grad) if needed]
    return {slot: returned[i] for slot, i in zip(wanted, asked, strict=True)}


def _activation(operation: Operation) -> None:
    """The share of dead and saturated elements and units, where the operation is an activation."""
    spec = spec_of(operation.name)
    if spec is None or spec.random or not spec.file.startswith("manual_bp/layers/"):
        return
    wanted = [s for s in operation.inputs if s.wanted]
    if len(wanted) != 1 or (slope := wanted[0].slope) is None or slope.shape != wanted[0].shape:
        return
    if wanted[0].parameter is not None:  # a Linear of one weight, whose slope is its input
        return
    none = slope == 0
    operation.dead = float(none.double().mean())
    operation.saturated = float(((slope.abs() < SATURATED) & ~none).double().mean())
    # Units lie along the second axis of tables and images, along the last of sequences.
    axis = slope.dim() - 1 if slope.dim() in (0, 1, 3) else 1
    others = [i for i in range(slope.dim()) if i != axis]
    units = none.all(others) if others else none
    operation.dead_units = float(units.double().mean())
