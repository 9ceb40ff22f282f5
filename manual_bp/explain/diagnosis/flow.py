"""Signals that fade or grow on their way: through layers, and through time."""

from __future__ import annotations

import math
from collections.abc import Iterator

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.reach import shortened
from manual_bp.explain.diagnosis.summary import Summary, number, summarize

__all__ = ["EXPLODED", "EXPLODED_TIME", "GROWN", "VANISHED", "exploding", "vanishing"]

VANISHED = 1e-5
"""Gradient at a layer's output over the largest at any later layer.

A plain network of n layers in PyTorch's default initialization, whose gain is 1/sqrt(3) a tanh
layer and 1/sqrt(6) a ReLU layer, comes down to 0.41^10 = 1e-4 after ten; it still trains. A
sigmoid's is at most 1/4 of a tanh's: 0.14^7 = 1e-6 in a chain of eight."""

EXPLODED = 1e3
"""Norm of a weight's gradient over that of the weight. A step of SGD with a rate as small as 0.001
replaces the weight altogether; healthy layers stay below 10 with a mean-reduced loss."""

GROWN = 1e4
"""Root mean square of a layer's output, over that of the network's input where this is above 1.
Initializations keep it (He et al. 2015, section 2.2); normalized data make it about 1. float16 ends
at 65504."""

EXPLODED_TIME = 1e3
"""Gradient at the first step of a sequence over that at the last. Pascanu et al. 2013, section 2.1:
it grows by a constant factor a step or it does not grow."""

MANY = 5
"""Steps that make a sequence: fewer are layers that share a weight."""


def vanishing(case: Case) -> Iterator[Finding]:
    """Layers that a gradient reaches as next to nothing."""
    sizes = _arriving(case)
    layers = list(sizes)
    faded = []
    for at, layer in enumerate(layers):
        later = max((sizes[x] for x in layers[at + 1 :]), default=0.0)
        if 0 < sizes[layer] < VANISHED * later:
            faded.append((layer, sizes[layer], later))
    if not faded:
        return
    layer, least, most = faded[0]
    source = next(x for x in reversed(layers) if sizes[x] == most)
    gap = layers.index(source) - layers.index(layer)
    factor = (least / most) ** (1 / gap)
    names = [name for name, *_ in faded]
    yield Finding(
        "vanishing gradient",
        layer,
        f"The gradient comes down from {number(most)} at {source} to {number(least)} here, "
        f"by {number(factor)} a layer."
        + (f" Below {VANISHED:g} of it: {shortened(names)}." if len(names) > 1 else ""),
        numbers={"layers": names, "here": least, "there": most, "factor": factor},
    )


def exploding(case: Case) -> Iterator[Finding]:
    """Activations, gradients and gradients through time that have grown out of bounds."""
    yield from _activations(case)
    yield from _through_time(case)
    ratios = {}
    for name, gradient in case.gradients.items():
        weight = case.parameters[name]
        if gradient is None or weight.ndim < 2 or not (size := _norm(summarize(weight))):
            continue
        ratio = _norm(summarize(gradient)) / size
        if ratio > EXPLODED:
            ratios[name] = (ratio, ratio * size, size)
    if ratios:
        name = max(ratios, key=lambda n: ratios[n][0])
        ratio, gradient_norm, size = ratios[name]
        yield Finding(
            "exploding gradient",
            name,
            f"The gradient's norm is {number(gradient_norm)}, {number(ratio)} times the weight's "
            f"{number(size)}."
            + (f" Above {EXPLODED:g} times: {shortened(list(ratios))}." if len(ratios) > 1 else ""),
            numbers={"weights": list(ratios), "gradient": gradient_norm, "ratio": ratio},
        )


def _arriving(case: Case) -> dict[str, float]:
    """Norm of the gradient at the output of each layer with a weight, in forward order."""
    sizes: dict[str, float] = {}
    for call in case.weighted:
        summary = call.arriving
        if summary is not None and summary.finite:
            layer = call.module or case.weights(call)[0]
            sizes[layer] = max(sizes.get(layer, 0.0), _norm(summary))
    return sizes


def _activations(case: Case) -> Iterator[Finding]:
    given = [summarize(t).rms for t in case.given.values() if t.is_floating_point()]
    scale = max([1.0, *(rms for rms in given if math.isfinite(rms))])
    for call in case.weighted:
        made = call.output
        if made is None or not made.rms > GROWN * scale:
            continue
        x = next((s for s in case.inputs(call) if s.name not in case.parameters), made)
        gain = made.rms / x.rms if x.rms else math.inf
        yield Finding(
            "exploding activations",
            call.module,
            f"The root mean square is {number(made.rms)}, {number(gain)} times that of what goes "
            f"in, and {number(made.rms / scale)} times that of the network's input.",
            operation=call.name,
            formula=call.spec.formula if call.spec else "",
            tensors=(*case.inputs(call), made.called("output")),
            numbers={"rms": made.rms, "gain": gain},
        )
        return  # what follows has only inherited it


def _through_time(case: Case) -> Iterator[Finding]:
    told = set()
    for call, steps in _sequences(case):
        if len(steps) < MANY or call.module in told or not steps[-1]:
            continue
        growth = steps[0] / steps[-1]
        if not growth > EXPLODED_TIME:
            continue
        told.add(call.module)
        factor = growth ** (1 / (len(steps) - 1))
        yield Finding(
            "exploding through time",
            call.module,
            f"On its way back through {len(steps)} steps the gradient grows from "
            f"{number(steps[-1])} to {number(steps[0])}, by {number(factor)} a step.",
            operation=call.name,
            formula=call.spec.gradient if call.spec else "",
            tensors=case.inputs(call),
            numbers={"steps": len(steps), "first": steps[0], "last": steps[-1], "factor": factor},
        )


def _sequences(case: Case) -> Iterator[tuple[Call, list[float]]]:
    """Norms of the gradient at each step: of a cell called again and again, of one recurrent call.

    torch unrolls a recurrent call into nodes of the same name, one a step, on the CPU; where one
    kernel does all steps (cuDNN) they are not to be seen.
    """
    cells: dict[str, list[Call]] = {}
    for call in case.weighted:
        cells.setdefault(f"{call.module}/{case.weights(call)[0]}", []).append(call)
    for calls in cells.values():
        steps = [_norm(s) for call in calls if (s := call.arriving) is not None]
        yield calls[0], steps
    for call in case.weighted:
        if not call.name.startswith(("rnn", "lstm", "gru")):
            continue
        kinds: dict[str, list[tuple[int, float]]] = {}
        for passage in call.passages:
            if passage.arriving[0] is not None:
                at = passage.node._sequence_nr()
                kinds.setdefault(passage.node.name(), []).append((at, _norm(passage.arriving[0])))
        # rnn_tanh(input, hx, weights, has_biases, num_layers, dropout, train, bidirectional, ...)
        layers, twice = call.argument(4, "num_layers"), call.argument(7, "bidirectional", False)
        if not isinstance(layers, int):
            continue  # a packed sequence, whose arguments are others
        for kind in kinds.keys() & {"TanhBackward0", "ReluBackward0"}:
            norms = [norm for _, norm in sorted(kinds[kind])]
            length = max(1, len(norms) // (layers * (2 if twice else 1)))
            for start in range(0, len(norms), length):
                yield call, norms[start : start + length]


def _norm(summary: Summary) -> float:
    """Euclidean norm."""
    return summary.rms * math.sqrt(summary.size) if summary.size else 0.0
