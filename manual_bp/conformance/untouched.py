"""What a call and its backward may not change: inputs, cotangents, outputs, global state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.layouts import lay_out
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward

__all__ = ["modified", "same", "unsettled"]

# Buffers such as running statistics are sums in another order.
_RTOL = 1e-10


def modified(
    manual: Forward,
    native: Forward,
    given: Sequence[Tensor | None],
    drawn: Sequence[Tensor | None],
    kept: Sequence[Tensor],
    layout: str,
) -> list[Problem]:
    """Tensors that changed although the reference leaves them alone, or changes them otherwise.

    Args:
        manual: The call of the function under test, after its backward.
        native: The same of the reference.
        given: The cotangents that the function under test was given.
        drawn: Their values before they were laid out.
        kept: The outputs as they were before the backward.
        layout: Of the cotangents.
    """
    problems = _inputs(manual, native)
    for i, (now, before) in enumerate(zip(given, drawn, strict=True)):
        if now is not None and before is not None and not same(now, lay_out(before, layout)):
            name = "grad_output" if len(given) == 1 else f"grad_output {i}"
            hint = "Other branches of the graph read the same tensor: work on a copy."
            problems.append(Problem("mutated", name, "is modified by the backward", hint=hint))
    for i, (y, before) in enumerate(zip(manual.outputs, kept, strict=True)):
        if not same(y, before):
            name = "output" if len(kept) == 1 else f"output {i}"
            hint = "The caller still holds it: work on a copy of the saved tensor."
            problems.append(Problem("mutated", name, "is modified by the backward", hint=hint))
    return problems


def _inputs(manual: Forward, native: Forward) -> list[Problem]:
    problems = []
    call = manual.call
    for i in call.tensors:
        after, native_after = manual.made.leaves[i], native.made.leaves[i]
        before = call.leaves[i]
        steady = same(native_after, before)
        if steady and same(after, before):
            if after._version > native_after._version:
                text = "is written to in place (its version counter moved), autograd's is not"
                hint = "Whoever saved it before the call gets an error in the backward."
                problems.append(Problem("mutated", call.names[i], text, hint=hint))
            continue
        mismatch = differ(after, native_after, rtol=_RTOL, scale=largest(native_after))
        if mismatch is None:
            continue
        if steady:
            text, hint = "is modified; autograd leaves it alone", "Work on a copy."
            problems.append(Problem("mutated", call.names[i], text, mismatch, hint))
        else:
            text = "is updated in place otherwise than by autograd"
            hint = "It is state, such as a running mean: look at the update's formula and factor."
            problems.append(Problem("mutated", call.names[i], text, mismatch, hint))
    return problems


def unsettled(manual: Forward, native: Forward, random_state: Tensor) -> list[Problem]:
    """Global state that a call or its backward left changed.

    Args:
        manual: The call of the function under test, after its backward.
        native: The same of the reference.
        random_state: Of the default generator, before the backward.
    """
    problems = []
    if not torch.equal(random_state, torch.default_generator.get_state()):
        text = "draws random numbers, or moves the generator"
        hint = "A backward uses the numbers that its forward drew: save them."
        problems.append(Problem("random", "backward", text, hint=hint))
    for change in manual.left_behind:
        if change not in native.left_behind:
            hint = "Use the setting as a context: `with torch.no_grad():`."
            problems.append(Problem("global state", "the call", change, hint=hint))
    return problems


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN equal to NaN."""
    a, b = a.detach(), b.detach()
    if torch.equal(a, b):
        return True
    if not (a.dtype.is_floating_point or a.dtype.is_complex) or a.shape != b.shape:
        return False
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
