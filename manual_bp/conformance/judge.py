"""Make one call on both sides and say everything that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.numeric import against_itself
from manual_bp.conformance.report import Problem
from manual_bp.conformance.results import (
    CLOSE,
    Terms,
    compare_gradients,
    compare_outputs,
    laid_out,
)
from manual_bp.conformance.run import Forward, Raised
from manual_bp.conformance.untouched import modified, unsettled

__all__ = ["judge", "raised_problem", "try_manual"]

# A result that an ulp moves by more than this is one of many, and no more right than another.
_DECIDED = 1e-4


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
        if terms.conditioned:
            _insist_conditioned(bench, call, native)
        _insist_decided(bench, call, native)
        return problems
    drawn = _draw_cotangents(bench, native, terms)
    given = [laid_out(g, terms) for g in drawn]
    kept = [y.detach().clone() for y in manual.outputs]
    try:
        expected = native.backward([laid_out(g, terms) for g in drawn])
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
        return against_itself(bench, call, got, [laid_out(g, terms) for g in drawn]) + problems
    leaves = manual.made.leaves
    wrong = compare_gradients(bench, call, got, expected, terms, drawn, leaves)
    if not wrong and call is bench.call:
        bench.agreement |= _agreement(call, got, expected)
    if any(problem.mismatch for problem in wrong):
        if terms.conditioned:
            _insist_conditioned(bench, call, native, [laid_out(g, terms) for g in drawn], expected)
        _insist_decided(bench, call, native, [laid_out(g, terms) for g in drawn], expected)
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


def _insist_conditioned(
    bench: Bench,
    call: Call,
    native: Forward,
    cotangents: Sequence[Tensor | None] = (),
    grads: dict[int, Tensor | None] | None = None,
) -> None:
    """Leave a case out where the last digit of the inputs decides the result, as in sin(1e18).

    Raises:
        LeftOut: where inputs that are moved by an ulp have another result altogether.
    """
    moved = bench.refer(call.with_leaves({i: _nudged(call.leaves[i]) for i in call.floating}))
    pairs = list(zip(native.outputs, moved.outputs, strict=True))
    if grads is not None:
        try:
            got = moved.backward(cotangents)
        except Raised:
            return
        pairs += [(a, b) for i, a in grads.items() if a is not None and (b := got[i]) is not None]
    if any(differ(b, a, rtol=_DECIDED, scale=largest(a)) for a, b in pairs):
        raise LeftOut("the last digit of the inputs decides the result")


def _nudged(x: Tensor) -> Tensor:
    return x * (1 + torch.finfo(x.dtype).eps)


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
