"""Make one call on both sides and say everything that differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import Mismatch, differ, largest
from manual_bp.conformance.layouts import lay_out
from manual_bp.conformance.noise import Noise
from manual_bp.conformance.numeric import against_itself
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward, Raised
from manual_bp.conformance.untouched import modified, unsettled

__all__ = [
    "CLOSE",
    "Terms",
    "compare_gradients",
    "compare_outputs",
    "judge",
    "raised_problem",
    "try_manual",
]

# For inputs of extreme size, where rounding is amplified and wrong formulas fail by far.
CLOSE = 1e-7


@dataclass(frozen=True)
class Terms:
    """On what terms a call is judged.

    Attributes:
        rtol: Relative tolerance; None takes the bench's own.
        cotangent: Layout of the cotangents.
        change: What is done to the random cotangents before they are laid out.
        only: Index of the one output that is used; None for all.
        may_refuse: Whether the function may raise in its forward, ``never``, ``in words`` (by a
            ``raise`` or ``assert`` of its own) or ``always``; ``anywhere`` allows it in the
            backward too. Where the example did not promise that the function takes such a call,
            an error is not a wrong gradient.
        finite: Whether the case is left out where the reference's output is not finite.
        output_may_differ: Whether the case is left out where the outputs differ already.
        strict_none: Whether None is wrong where the reference has a gradient of zeros.
    """

    rtol: float | None = None
    cotangent: str = "contiguous"
    change: Callable[[Tensor], Tensor] | None = None
    only: int | None = None
    may_refuse: str = "never"
    finite: bool = False
    output_may_differ: bool = False
    strict_none: bool = False


def raised_problem(raised: Raised) -> Problem:
    """A function under test that raised where the reference did not."""
    return Problem("raised", raised.phase, f"raises {raised.message}")


def try_manual(bench: Bench, call: Call, may_refuse: str = "never") -> Forward | Problem:
    """Call the function under test; a refusal that is allowed leaves the case out."""
    try:
        return Forward(bench.manual, call, bench.seed)
    except Raised as raised:
        if may_refuse in ("always", "anywhere") or (may_refuse == "in words" and raised.deliberate):
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
    own_numbers = native.drew and manual.drew and _comparable(problems)
    own_numbers = own_numbers and (bool(problems) or bench.own_numbers)
    if problems and not own_numbers:
        if terms.output_may_differ:
            raise LeftOut("the outputs differ already")
        _insist_decided(bench, call, native)
        return problems
    drawn = _draw_cotangents(bench, native, terms)
    given = [_laid_out(g, terms) for g in drawn]
    kept = [y.detach().clone() for y in manual.outputs]
    try:
        expected = native.backward([_laid_out(g, terms) for g in drawn])
    except Raised as raised:
        raise LeftOut(f"the reference has no backward for it ({raised.message})") from None
    before = torch.default_generator.get_state()
    try:
        got = manual.backward(given)
    except Raised as raised:
        if terms.may_refuse == "anywhere":
            raise LeftOut(f"the function under test refuses it ({raised.message})") from None
        return [raised_problem(raised)]
    problems = unsettled(manual, native, before)
    problems += modified(manual, native, given, drawn, kept, terms.cotangent)
    if own_numbers:
        return against_itself(bench, call, got, [_laid_out(g, terms) for g in drawn]) + problems
    leaves = manual.made.leaves
    wrong = compare_gradients(bench, call, got, expected, terms, drawn, leaves)
    if not wrong and call is bench.call:
        bench.agreement |= _agreement(call, got, expected)
    if any(problem.mismatch for problem in wrong):
        _insist_decided(bench, call, native, [_laid_out(g, terms) for g in drawn], expected)
    known = _known(call, native, drawn, expected)
    return [replace(problem, known=known) for problem in wrong] + problems


def _agreement(
    call: Call, got: dict[int, Tensor | None], expected: dict[int, Tensor | None]
) -> dict[str, tuple[float, float]]:
    """How close gradients are that count as equal."""
    close = {}
    for i, reference in expected.items():
        manual = got[i]
        if manual is None or reference is None or not reference.numel():
            continue
        mismatch = differ(manual, reference, rtol=0.0)
        name = f"gradient of {call.names[i]}"
        close[name] = (mismatch.relative, mismatch.ulps) if mismatch else (0.0, 0.0)
    return close


def _known(
    call: Call,
    native: Forward,
    cotangents: Sequence[Tensor | None],
    grads: dict[int, Tensor | None],
) -> dict[str, Tensor]:
    """The tensors of a call by the names that a report gives them."""
    known = {call.names[i]: call.leaves[i] for i in call.floating}
    single = len(native.outputs) == 1
    for k, (y, g) in enumerate(zip(native.outputs, cotangents, strict=True)):
        known["the output" if single else f"output {k}"] = y.detach()
        if g is not None:
            known["grad_output" if single else f"grad_output {k}"] = g.detach()
    known |= {f"gradient of {call.names[i]}": g for i, g in grads.items() if g is not None}
    return known


def _insist_decided(
    bench: Bench,
    call: Call,
    native: Forward,
    cotangents: Sequence[Tensor | None] = (),
    grads: dict[int, Tensor | None] | None = None,
) -> None:
    """Leave a case out where the reference does not agree with itself.

    Which of several equal elements median or topk picks depends on the layout and on the
    machine, and some functions read memory that was never written when there is nothing to do.

    Raises:
        LeftOut: where a second call, or one in another layout, has other results.
    """
    for label, again in (
        ("from call to call", call),
        ("with the layout of its inputs", call.with_layout("contiguous")),
    ):
        other = bench.refer(again)
        pairs = list(zip(native.outputs, other.outputs, strict=True))
        if grads is not None:
            try:
                got = other.backward(cotangents)
            except Raised:
                continue
            pairs += [
                (a, b) for i, a in grads.items() if a is not None and (b := got[i]) is not None
            ]
        for a, b in pairs:
            if differ(b, a, rtol=CLOSE, scale=largest(a)):
                raise LeftOut(f"the reference itself changes {label}")


def _comparable(problems: Sequence[Problem]) -> bool:
    """Whether outputs differ in their numbers only."""
    return all(problem.mismatch is not None for problem in problems)


def _draw_cotangents(bench: Bench, native: Forward, terms: Terms) -> list[Tensor | None]:
    drawn = bench.cotangents(native.outputs)
    if terms.only is not None:
        drawn = [g if i == terms.only else None for i, g in enumerate(drawn)]
    if terms.change is None:
        return drawn
    return [None if g is None else terms.change(g) for g in drawn]


def _laid_out(g: Tensor | None, terms: Terms) -> Tensor | None:
    return None if g is None else lay_out(g, terms.cotangent)


def compare_outputs(bench: Bench, manual: Forward, native: Forward, terms: Terms) -> list[Problem]:
    """What differs between the results of the two forward passes."""
    if len(manual.outputs) != len(native.outputs):
        text = f"is {len(manual.outputs)} tensors, autograd's {len(native.outputs)}"
        return [Problem("output", "the result", text)]
    noise = Noise(bench, native.call)
    problems = []
    for i, (got, expected) in enumerate(zip(manual.outputs, native.outputs, strict=True)):
        subject = "output" if len(native.outputs) == 1 else f"output {i}"
        text = _form(got, expected, "autograd's")
        if text:
            problems.append(Problem("output", subject, text))
        elif mismatch := _differ(
            bench, got, expected, terms, bench.output_scale(i), partial(noise.of_output, i)
        ):
            problems.append(Problem("output", subject, "differs", mismatch))
        elif expected.requires_grad and not got.requires_grad:
            text = "does not require a gradient, autograd's does"
            hint = (
                "It is cut off from its inputs: marked non-differentiable, computed from "
                "detached tensors, or under no_grad."
            )
            problems.append(Problem("cut off", subject, text, hint=hint))
    return problems


def _form(got: Tensor, expected: Tensor, whose: str) -> str:
    """What differs in shape, dtype or device; empty where nothing does."""
    if got.shape != expected.shape:
        return f"has shape {tuple(got.shape)}, {whose} {tuple(expected.shape)}"
    if got.dtype != expected.dtype:
        return f"has dtype {got.dtype}, {whose} {expected.dtype}"
    if got.device != expected.device:
        return f"is on {got.device}, {whose} on {expected.device}"
    return ""


def _differ(
    bench: Bench,
    got: Tensor,
    expected: Tensor,
    terms: Terms,
    scale: float,
    noise: Callable[[], float],
) -> Mismatch | None:
    """A difference that rounding does not explain."""
    rtol = bench.rtol if terms.rtol is None else terms.rtol
    mismatch = differ(got, expected, rtol=rtol, scale=scale)
    if mismatch is None or expected.dtype.itemsize < 8:
        return mismatch
    if mismatch.difference > 1e-4 * max(scale, largest(expected)):
        return mismatch
    return differ(got, expected, rtol=rtol, scale=scale, atol=noise())


def compare_gradients(
    bench: Bench,
    call: Call,
    got: dict[int, Tensor | None],
    expected: dict[int, Tensor | None],
    terms: Terms,
    cotangents: Sequence[Tensor | None],
    leaves: Sequence[Any] = (),
) -> list[Problem]:
    """What differs between two sets of gradients."""
    noise = Noise(bench, call, [_laid_out(g, terms) for g in cotangents])
    size = max((largest(g) for g in cotangents if g is not None), default=1.0)
    problems = []
    for i, reference in expected.items():
        manual = got.get(i)
        subject = f"gradient of {call.names[i]}"
        scale = bench.scales.get(i, 0.0) * max(size, 1e-300)
        if reference is None:
            if manual is not None and largest(manual) > 0:
                mismatch = differ(manual, torch.zeros_like(manual), rtol=0.0, scale=scale)
                if mismatch:
                    text = "is not zero, but the output does not depend on it"
                    problems.append(Problem("gradient", subject, text, mismatch))
            continue
        if manual is None:
            if largest(reference) > 64 * bench.eps * scale:
                problems.append(Problem("missing", subject, "is None, autograd's is not zero"))
            elif terms.strict_none and reference.numel():
                text = "is None, autograd's is a tensor of zeros"
                hint = "Optimizers skip a parameter whose gradient is None, with its weight decay."
                problems.append(Problem("missing", subject, text, hint=hint))
            continue
        if any(manual is leaf for leaf in leaves):
            text = "is an input itself, not a copy of it"
            hint = "Whoever scales or clips the gradient in place changes the input: clone it."
            problems.append(Problem("alias", subject, text, hint=hint))
        elif manual.requires_grad and not reference.requires_grad:
            text = "is still attached to a graph, without create_graph"
            hint = "It keeps that graph alive: detach it, or compute it without enable_grad."
            problems.append(Problem("attached", subject, text, hint=hint))
        if text := _form(manual, reference, "the input's is"):
            problems.append(Problem("shape", subject, text))
        elif mismatch := _differ(
            bench, manual, reference, terms, scale, partial(noise.of_gradient, i)
        ):
            problems.append(Problem("gradient", subject, "differs", mismatch))
    return problems
