"""Make one call on both sides and say everything that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward, Raised

__all__ = ["Terms", "compare_gradients", "compare_outputs", "judge", "try_manual"]

EXACT = 1e-10
CLOSE = 1e-7


@dataclass(frozen=True)
class Terms:
    """On what terms a call is judged.

    Attributes:
        rtol: Relative tolerance; None takes the bench's own.
        cotangent: Layout of the cotangents.
        change: What is done to the random cotangents before they are laid out.
        may_refuse: Whether the manual function may raise in its forward: the example did not
            promise that it takes such a call, and an error is not a wrong gradient.
        finite: Whether the case is left out where the reference's output is not finite.
        strict_none: Whether None counts as wrong where the reference has zeros.
        explain: Added to a problem that has no hint of its own.
    """

    rtol: float | None = None
    cotangent: str = "contiguous"
    change: Callable[[Tensor], Tensor] | None = None
    may_refuse: bool = False
    finite: bool = False
    strict_none: bool = False
    explain: str = ""


def raised_problem(raised: Raised) -> Problem:
    """A manual function that raised where the reference did not."""
    return Problem("raised", raised.phase, f"raises {raised.message}")


def try_manual(bench: Bench, call: Call, may_refuse: bool) -> Forward | Problem:
    """Call the function under test; a refusal that is allowed leaves the case out."""
    try:
        return Forward(bench.manual, call, bench.seed)
    except Raised as raised:
        if may_refuse:
            raise LeftOut(f"the function under test refuses it ({raised.message})") from None
        return raised_problem(raised)


def judge(bench: Bench, call: Call, terms: Terms) -> list[Problem]:
    """Everything that is wrong with one call and its backward.

    Raises:
        LeftOut: where the call says nothing about the function.
    """
    native = bench.refer(call)
    if terms.finite and not all(bool(y.isfinite().all()) for y in native.outputs):
        raise LeftOut("the reference's output is not finite")
    manual = try_manual(bench, call, terms.may_refuse)
    if isinstance(manual, Problem):
        return [manual]
    problems = compare_outputs(bench, manual, native, terms)
    if problems:
        return problems
    state = bench.generator.get_state()
    cotangents = _cotangents(bench, native, terms)
    try:
        expected = native.backward(cotangents)
    except Raised as raised:
        raise LeftOut(f"the reference has no backward for it ({raised.message})") from None
    bench.generator.set_state(state)
    given = _cotangents(bench, native, terms)
    kept = [None if g is None else g.clone() for g in given]
    results = [y.detach().clone() for y in manual.outputs]
    random_state = torch.default_generator.get_state()
    try:
        got = manual.backward(given)
    except Raised as raised:
        return [raised_problem(raised)]
    drew = not torch.equal(random_state, torch.default_generator.get_state())
    problems += compare_gradients(bench, call, got, expected, terms)
    problems += _modified(manual, native, given, kept, results)
    if drew:
        problems.append(
            Problem(
                "random",
                "backward",
                "draws random numbers",
                hint="A backward has to use the numbers that its forward drew: save them.",
            )
        )
    return problems


def _cotangents(bench: Bench, native: Forward, terms: Terms) -> list[Tensor | None]:
    from manual_bp.conformance.layouts import lay_out

    drawn = bench.cotangents(native.outputs)
    if terms.change is not None:
        drawn = [None if g is None else terms.change(g) for g in drawn]
    return [None if g is None else lay_out(g, terms.cotangent) for g in drawn]


def compare_outputs(bench: Bench, manual: Forward, native: Forward, terms: Terms) -> list[Problem]:
    """What differs between the results of the two forward passes."""
    rtol = bench.rtol if terms.rtol is None else terms.rtol
    if len(manual.outputs) != len(native.outputs):
        text = f"returns {len(manual.outputs)} tensors, autograd {len(native.outputs)}"
        return [Problem("output", "output", text)]
    problems = []
    for i, (got, expected) in enumerate(zip(manual.outputs, native.outputs, strict=True)):
        subject = "output" if len(native.outputs) == 1 else f"output {i}"
        if got.shape != expected.shape:
            text = f"has shape {tuple(got.shape)}, autograd's {tuple(expected.shape)}"
            problems.append(Problem("output", subject, text))
        elif got.dtype != expected.dtype:
            text = f"has dtype {got.dtype}, autograd's {expected.dtype}"
            problems.append(Problem("output", subject, text))
        elif got.device != expected.device:
            text = f"is on {got.device}, autograd's on {expected.device}"
            problems.append(Problem("output", subject, text))
        elif mismatch := differ(got, expected, rtol=rtol, scale=largest(expected)):
            problems.append(Problem("output", subject, "differs", mismatch))
        elif expected.requires_grad and not got.requires_grad:
            text = "does not require a gradient, autograd's does"
            hint = (
                "It is cut off from its inputs: marked non-differentiable, computed from detached "
                "tensors or under no_grad."
            )
            problems.append(Problem("cut off", subject, text, hint=hint))
    return problems


def compare_gradients(
    bench: Bench,
    call: Call,
    got: dict[int, Tensor | None],
    expected: dict[int, Tensor | None],
    terms: Terms,
) -> list[Problem]:
    """What differs between two sets of gradients."""
    rtol = bench.rtol if terms.rtol is None else terms.rtol
    problems = []
    for i, reference in expected.items():
        manual = got.get(i)
        subject = f"gradient of {call.names[i]}"
        if reference is None:
            if manual is not None and largest(manual) > 0:
                zeros = torch.zeros_like(manual)
                mismatch = differ(manual, zeros, rtol=rtol, scale=bench.scales.get(i, 0.0))
                if mismatch:
                    text = "is not zero, but the output does not depend on it"
                    problems.append(Problem("gradient", subject, text, mismatch))
            continue
        if manual is None:
            if largest(reference) > 0 or (terms.strict_none and reference.numel()):
                text = "is None, autograd's is not"
                problems.append(Problem("missing", subject, text))
            continue
        if manual.requires_grad and not reference.requires_grad:
            text = "is still attached to a graph, without create_graph"
            problems.append(Problem("attached", subject, text))
        if manual.shape != reference.shape:
            text = f"has shape {tuple(manual.shape)}, the input has {tuple(reference.shape)}"
            problems.append(Problem("shape", subject, text))
        elif manual.dtype != reference.dtype:
            text = f"has dtype {manual.dtype}, the input has {reference.dtype}"
            problems.append(Problem("shape", subject, text))
        elif mismatch := differ(manual, reference, rtol=rtol, scale=bench.scales.get(i, 0.0)):
            problems.append(Problem("gradient", subject, "differs", mismatch))
    return problems


def _modified(
    manual: Forward,
    native: Forward,
    given: Sequence[Tensor | None],
    kept: Sequence[Tensor | None],
    results: Sequence[Tensor],
) -> list[Problem]:
    """Inputs, cotangents and outputs that changed although the reference leaves them alone."""
    problems = []
    call = manual.call
    for i in call.tensors:
        before, after, native_after = call.leaves[i], manual.made.leaves[i], native.made.leaves[i]
        if same(after, before) and same(native_after, before):
            continue
        if not after.dtype.is_floating_point and not after.dtype.is_complex:
            wrong = not torch.equal(after, native_after)
        else:
            wrong = differ(after, native_after, rtol=EXACT, scale=largest(native_after)) is not None
        if wrong:
            changed = "is modified" if same(native_after, before) else "is modified differently"
            problems.append(
                Problem(
                    "mutated",
                    call.names[i],
                    f"{changed}; autograd's "
                    + ("stays as it was" if same(native_after, before) else "ends otherwise"),
                    None if same(native_after, before) else differ(after, native_after, rtol=EXACT),
                    hint="Work on a copy, or out of place.",
                )
            )
    for i, (now, before) in enumerate(zip(given, kept, strict=True)):
        if now is not None and before is not None and not same(now, before):
            problems.append(
                Problem(
                    "mutated",
                    "grad_output" if len(given) == 1 else f"grad_output {i}",
                    "is modified by the backward",
                    hint="Other branches of the graph read the same tensor: work on a copy.",
                )
            )
    for i, (now, before) in enumerate(zip(manual.outputs, results, strict=True)):
        if not same(now.detach(), before):
            problems.append(
                Problem(
                    "mutated",
                    "output" if len(results) == 1 else f"output {i}",
                    "is modified by the backward",
                    hint="The caller still holds the output: work on a copy of the saved tensor.",
                )
            )
    return problems


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN equal to NaN."""
    a, b = a.detach(), b.detach()
    if torch.equal(a, b):
        return True
    if not (a.dtype.is_floating_point or a.dtype.is_complex) or a.shape != b.shape:
        return False
    return bool(((a == b) | (a.isnan() & b.isnan())).all())
