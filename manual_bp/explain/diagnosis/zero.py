"""Parameters whose gradient is there, and zero to the last bit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from manual_bp.explain.diagnosis.call import Call, Passage
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.reach import shortened
from manual_bp.explain.diagnosis.summary import Summary

__all__ = ["zero_gradient"]

# Slope zero everywhere; autograd gives exact zeros and says nothing.
_FLAT = {"round", "floor", "ceil", "trunc", "sign", "sgn", "heaviside", "fix"}


def zero_gradient(case: Case, explained: Collection[int]) -> Iterator[Finding]:
    """The parameters with a gradient of nothing but zeros, by the operation that zeroes it.

    Silent where it will pass: behind a weight that starts at zero and moves in the first step
    (the last layer of a residual branch, LoRA's B); and where nothing is left to learn, at a loss
    of exactly 0.

    Args:
        case: What was watched.
        explained: Indices of calls whose dead units are told already.
    """
    if float(case.loss.detach()) == 0:
        return
    groups: dict[int, list[str]] = {}
    for name, gradient in case.gradients.items():
        if gradient is None or gradient.numel() == 0 or bool(gradient.any()):
            continue
        if case.parameters[name].ndim < 2 and _others_learn(case, name):
            continue  # the bias before a BatchNorm: a sum that cancels
        passage = _end(case, name)
        call = passage.call if passage else None
        if call is not None and (_explained(case, call, explained) or _will_pass(case, call)):
            continue
        groups.setdefault(call.index if call else -1, []).append(name)
    for index, names in groups.items():
        yield _finding(case, case.watch.calls[index] if index >= 0 else None, names)


def _others_learn(case: Case, name: str) -> bool:
    module = name.rpartition(".")[0]
    return any(
        other.rpartition(".")[0] == module and g is not None and bool(g.any())
        for other, g in case.gradients.items()
    )


def _end(case: Case, name: str) -> Passage | None:
    """The first node where a gradient arrives and only zeros leave towards the parameter."""
    parameter = case.parameters[name]
    leading: set[Any] = set()
    # From the parameter's end: what follows a node has been passed after it.
    for passage in reversed(case.watch.passages):
        if any(_is(node, parameter, leading) for node, _ in passage.node.next_functions):
            leading.add(passage.node)
    for passage in case.watch.passages:
        if not any(s is not None and s.zeros < s.size for s in passage.arriving):
            continue
        edges = zip(passage.node.next_functions, passage.leaving, strict=False)
        towards = [s for (node, _), s in edges if _is(node, parameter, leading)]
        if towards and all(s is None or s.zeros == s.size for s in towards):
            return passage
    return None


def _is(node: Any, parameter: nn.Parameter, leading: set[Any]) -> bool:
    return node is not None and (node in leading or getattr(node, "variable", None) is parameter)


def _explained(case: Case, call: Call, explained: Collection[int]) -> bool:
    """Whether the call is told already, or takes the zeros that one of those makes."""
    if call.index in explained:
        return True
    for key in call.inputs:
        maker, summary = case.watch.made(key), call.summaries[key]
        if maker is not None and summary.zeros == summary.size:
            if _explained(case, maker, explained):
                return True
    return False


def _will_pass(case: Case, call: Call) -> bool:
    """Whether the call multiplies by a parameter that is zero now and learns in this step."""
    for tensor in call.inputs.values():
        for candidate in (tensor, tensor._base):
            name = case.names.get(id(candidate), "")
            gradient = case.gradients.get(name)
            if gradient is not None and gradient.any() and not case.parameters[name].any():
                return True
    return False


def _finding(case: Case, call: Call | None, names: list[str]) -> Finding:
    text = f"The gradient of {shortened(names)} is exactly 0"
    if call is None:
        return Finding("zero gradient", names[0], f"{text}.", numbers={"parameters": names})
    text += f": it ends in {call.title}"
    arriving = call.arriving
    # A gradient by hand that is handed None takes it for zeros.
    returned = any(s is not None for passage in call.passages for s in passage.leaving)
    if not returned:
        text += f"; the backward of {call.name} returns None"
    return Finding(
        "zero gradient" if returned else "no gradient returned",
        call.module,
        f"{text}.{_why(call, case.inputs(call))}",
        operation=call.name,
        formula=call.spec.gradient if call.spec else "",
        tensors=(*case.inputs(call), *([arriving.called("gradient arriving")] if arriving else [])),
        numbers={"parameters": names, "call": call.index},
        severity="error",
    )


def _why(call: Call, inputs: tuple[Summary, ...]) -> str:
    if call.name in _FLAT:
        return f" The slope of {call.name} is 0 everywhere."
    if call.name in ("softmax", "log_softmax"):
        axis = call.argument(1, "dim", -1)
        x = inputs[0]
        if isinstance(axis, int) and -len(x.shape) <= axis < len(x.shape) and x.shape[axis] == 1:
            return f" Along axis {axis} there is one number, whose share is always 1."
    if call.name == "embedding":
        return " Every index is the padding's, whose row learns nothing."
    if call.name in ("clamp", "clip", "clamp_min", "clamp_max", "hardtanh", "relu6"):
        return " Every number lies outside of its bounds, where the slope is 0."
    empty = [s.name for s in inputs if s.size and s.zeros == s.size]
    if empty:
        return f" It is multiplied by nothing but zeros: {', '.join(empty)}."
    return ""
