"""The smallest call that still shows a problem."""

from __future__ import annotations

import time
from dataclasses import replace

from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.probe import Case
from manual_bp.conformance.report import Problem
from manual_bp.conformance.resize import Axis, resize

__all__ = ["shown_values", "shrink"]

# What a reader can take in, and what a report may cost.
_FEW = 12
_SECONDS = 0.5


def shrink(bench: Bench, case: Case, problem: Problem) -> tuple[Call, Problem]:
    """A smaller call with the same problem, or the one that there was.

    Dimensions are made smaller one after the other, then numbers are rounded.

    Args:
        bench: Of the check.
        case: That found the problem.
        problem: What it found.
    """
    call = case.call
    if not case.shrinks:
        return call, problem
    end = time.monotonic() + _SECONDS
    call, problem = _worst_first(bench, case, call, problem)
    for axis in bench.axes:
        for size in (1, 2, 3):
            if bench.structured or time.monotonic() > end or not _fits(call, axis, size):
                continue
            smaller = _keep_layouts(resize(bench, call, axis, size), call)
            again = _still(bench, case, smaller, problem)
            if again is not None:
                call, problem = smaller, again
                break
    rounded = _keep_layouts(_rounded(call, 1), call)
    again = _still(bench, case, rounded, problem) if time.monotonic() < end else None
    return (call, problem) if again is None else (rounded, again)


def _worst_first(bench: Bench, case: Case, call: Call, problem: Problem) -> tuple[Call, Problem]:
    """The call turned round, so that the worst element is among the first and not cut off."""
    names = {f"gradient of {name}": i for i, name in enumerate(call.names)}
    leaf = names.get(problem.subject)
    if problem.mismatch is None or leaf is None or bench.structured:
        return call, problem
    shifts = dict(enumerate(problem.mismatch.index))
    leaves = {i: call.leaves[i] for i in call.tensors}
    for axis in bench.axes:
        shift = next((shifts.get(d, 0) for i, d in axis.places if i == leaf and d is not None), 0)
        for i, dim in axis.places:
            if shift and dim is not None and dim < leaves[i].dim():
                leaves[i] = leaves[i].roll(-shift, dim)
    turned = _keep_layouts(call.with_leaves(leaves), call)
    again = _still(bench, case, turned, problem)
    return (call, problem) if again is None else (turned, again)


def _fits(call: Call, axis: Axis, size: int) -> bool:
    """Whether the axis is there in this call, and longer."""
    sizes = set()
    for leaf, dim in axis.places:
        x = call.leaves[leaf]
        if dim is None:
            sizes.add(x)
        elif isinstance(x, Tensor) and dim < x.dim():
            sizes.add(x.shape[dim])
        else:
            return False
    return len(sizes) == 1 and sizes.pop() > size


def _keep_layouts(changed: Call, like: Call) -> Call:
    return replace(changed, layouts=like.layouts, shared=like.shared)


def _rounded(call: Call, digits: int) -> Call:
    return call.with_leaves(
        {
            i: call.leaves[i].round(decimals=digits) + 0.0  # no -0
            for i in call.floating
            if not call.leaves[i].is_complex()
        }
    )


def _still(bench: Bench, case: Case, call: Call, problem: Problem) -> Problem | None:
    """The same problem with another call, as large as before in proportion."""
    try:
        found = case.judge(bench, call)
    except LeftOut:
        return None
    except Exception:
        return None
    for other in found:
        if (other.kind, other.subject) != (problem.kind, problem.subject):
            continue
        before, after = problem.mismatch, other.mismatch
        if (before is None) != (after is None):
            continue
        if before is None or after is None:
            return other
        # Of another order of magnitude, it is another case: one where the gradient vanishes.
        if 1e-3 * min(before.relative, 1.0) < after.relative < 1e3 * max(before.relative, 1.0):
            return other
    return None


def shown_values(call: Call) -> dict[str, str]:
    """The numbers of inputs that are few enough to be read."""
    shown = {}
    for i in call.tensors:
        x = call.leaves[i]
        if x.numel() <= _FEW:
            numbers = x.tolist()
            digits = 6 if is_differentiable(x) and not x.is_complex() else None
            shown[call.names[i]] = _written(numbers, digits)
    return shown


def _written(numbers: object, digits: int | None) -> str:
    if isinstance(numbers, list):
        return "[" + ", ".join(_written(n, digits) for n in numbers) + "]"
    if isinstance(numbers, float) and digits is not None:
        return f"{numbers:.{digits}g}"
    return str(numbers)
