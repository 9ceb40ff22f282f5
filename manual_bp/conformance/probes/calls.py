"""Several calls and several backwards: nothing may be carried from one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.fresh import fresh
from manual_bp.conformance.judge import raised_problem, try_manual
from manual_bp.conformance.probe import Case, case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.results import Terms, compare_gradients, compare_outputs
from manual_bp.conformance.run import Raised, dense

__all__ = ["modes", "overwritten", "same_tensor", "two_backwards", "two_calls"]

Grads = dict[int, Tensor | None]


def _expected(bench: Bench, call: Call, cotangents: Sequence[Tensor | None]) -> Grads:
    """What a single plain call gives: the reference, or the function where numbers are its own."""
    try:
        return bench.twin(call).backward(cotangents)
    except Raised as raised:
        raise LeftOut(f"the reference has no backward for it ({raised.message})") from None


@probe("two calls")
def two_calls(bench: Bench) -> Iterator[Case]:
    """Two calls before the first backward, in both orders, and the same call again.

    State on the class or in a cache keyed by shape belongs to the call before: the gradient of
    the first is computed with the numbers of the second.
    """
    hint = "Something is kept outside of ctx, on the class, in a module or in a cache."
    yield Case("first call's backward last", bench.call, _last_in_first_out, hint)
    yield Case("first call's backward first", bench.call, _first_in_first_out, hint)
    yield Case("the same call twice", bench.call, _repeated, hint)


def _last_in_first_out(bench: Bench, call: Call) -> list[Problem]:
    return _interleaved(bench, call, [1, 0])


def _first_in_first_out(bench: Bench, call: Call) -> list[Problem]:
    return _interleaved(bench, call, [0, 1])


def _interleaved(bench: Bench, call: Call, order: list[int]) -> list[Problem]:
    calls = [call, fresh(bench, call)]
    cotangents = [bench.cotangents(bench.refer(c).outputs) for c in calls]
    expected = [_expected(bench, c, g) for c, g in zip(calls, cotangents, strict=True)]
    made = []
    for c in calls:
        forward = try_manual(bench, c)
        if isinstance(forward, Problem):
            return [forward]
        made.append(forward)
    got: dict[int, Grads] = {}
    try:
        for k in order:
            got[k] = made[k].backward(cotangents[k])
    except Raised as raised:
        return [raised_problem(raised)]
    # Compared only now: the second backward may have overwritten what the first one returned.
    problems = []
    for k in (0, 1):
        problems += compare_gradients(bench, calls[k], got[k], expected[k], Terms(), cotangents[k])
    return problems


def _repeated(bench: Bench, call: Call) -> list[Problem]:
    """The same call twice gives the same bits where the reference does."""
    cotangents = bench.cotangents(bench.refer(call).outputs)
    results = []
    for _ in range(2):
        forward = try_manual(bench, call)
        if isinstance(forward, Problem):
            return [forward]
        try:
            results.append(forward.backward(cotangents))
        except Raised as raised:
            return [raised_problem(raised)]
    problems = []
    for i, first in results[0].items():
        second = results[1][i]
        if first is None or second is None or first.is_cuda:
            continue
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            subject = f"gradient of {call.names[i]}"
            text = "is another one when the same call is made again with the same seed"
            hint = "It draws numbers that no seed governs, or reads memory that was never written."
            problems.append(Problem("random", subject, text, hint=hint))
    return problems


@probe("two backwards")
def two_backwards(bench: Bench) -> Iterator[Case]:
    """The same graph twice, with retain_graph and different cotangents.

    A cache emptied, or a saved tensor worked on in place, by the first: dgl#1046, dgl#1060.
    """
    hint = "The backward changes or deletes what it needs again: leave ctx as it is."
    yield Case("retain_graph", bench.call, _retained, hint)
    hint = "Gradients are added up in .grad by the engine; a backward that keeps them adds twice."
    yield Case("accumulated in .grad", bench.call, _accumulated, hint)


def _retained(bench: Bench, call: Call) -> list[Problem]:
    outputs = bench.refer(call).outputs
    cotangents = [bench.cotangents(outputs) for _ in range(2)]
    expected = [_expected(bench, call, g) for g in cotangents]
    forward = try_manual(bench, call)
    if isinstance(forward, Problem):
        return [forward]
    problems = []
    try:
        for k in (0, 1, 0):
            got = forward.backward(cotangents[k], retain_graph=True)
            problems += compare_gradients(bench, call, got, expected[k], Terms(), cotangents[k])
    except Raised as raised:
        return [raised_problem(raised)]
    return problems


def _accumulated(bench: Bench, call: Call) -> list[Problem]:
    outputs = bench.refer(call).outputs
    cotangents = [bench.cotangents(outputs) for _ in range(2)]
    singles = [_expected(bench, call, g) for g in cotangents]
    expected: Grads = {}
    for i in sorted(call.needs):
        first, second = singles[0][i], singles[1][i]
        expected[i] = None if first is None or second is None else first + second
    forward = try_manual(bench, call)
    if isinstance(forward, Problem):
        return [forward]
    leaves = forward.made.leaves
    try:
        for given in cotangents:
            pairs = [
                (y, g)
                for y, g in zip(forward.outputs, given, strict=True)
                if g is not None and y.requires_grad
            ]
            if not pairs:
                raise LeftOut("no output requires a gradient")
            torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs], retain_graph=True)
    except LeftOut:
        raise
    except Exception as error:
        return [raised_problem(Raised("backward", error))]
    got = {i: None if leaves[i].grad is None else dense(leaves[i].grad) for i in call.needs}
    both = [
        None if a is None or b is None else a.abs() + b.abs()
        for a, b in zip(*cotangents, strict=True)
    ]
    return compare_gradients(bench, call, got, expected, Terms(), both)


@probe("one tensor twice")
def same_tensor(bench: Bench) -> Iterator[Case]:
    """The same tensor as two arguments: its gradients add up.

    Results that share one buffer, or written over the inputs, show when there is one input.
    """
    call = bench.call
    floating = [i for i in call.tensors if is_differentiable(call.leaves[i])]
    for k, first in enumerate(floating):
        for second in floating[k + 1 :]:
            if call.leaves[first].shape != call.leaves[second].shape:
                continue
            if (first in call.needs) != (second in call.needs):
                continue
            label = f"{call.names[second]} is {call.names[first]}"
            yield case(label, call.with_same(first, second), finite=True)


@probe("overwritten in between")
def overwritten(bench: Bench) -> Iterator[Case]:
    """Inputs and outputs changed in place between forward and backward.

    save_for_backward notices and raises. A tensor kept as ``ctx.x``, as ``x.data`` or through
    NumPy does not: the gradient is silently that of other numbers. pytorch#30454,
    Liger-Kernel#272.
    """
    hint = "Save inputs and outputs with ctx.save_for_backward: it raises when they have changed."
    for i in bench.call.floating if bench.structured else bench.call.tensors:
        if bench.call.leaves[i].numel():
            yield Case(
                f"{bench.name(i)} changed in place",
                bench.call,
                partial(_changed_between, leaf=i),
                hint,
            )
    for k, y in enumerate(bench.outputs()):
        if y.numel() and is_differentiable(y):
            name = "output" if len(bench.outputs()) == 1 else f"output {k}"
            yield Case(
                f"{name} changed in place",
                bench.call,
                partial(_changed_between, output=k),
                hint,
            )


def _changed_between(
    bench: Bench, call: Call, leaf: int | None = None, output: int = 0
) -> list[Problem]:
    native = bench.refer(call)
    cotangents = bench.cotangents(native.outputs)
    expected = _expected(bench, call, cotangents)
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    target = manual.made.leaves[leaf] if leaf is not None else manual.outputs[output]
    try:
        with torch.no_grad():
            _change(target)
        got = manual.backward(cotangents)
    except Exception:
        return []  # it noticed, one way or another
    return compare_gradients(bench, call, got, expected, Terms(), cotangents)


def _change(x: Tensor) -> None:
    """Other numbers in the same tensor; indices stay among those that were there."""
    if is_differentiable(x):
        x.mul_(1.5).add_(0.25)
    elif x.dtype == torch.bool:
        x.logical_not_()
    else:
        x.copy_(x.reshape(-1).roll(1).view(x.shape))


@probe("modes")
def modes(bench: Bench) -> Iterator[Case]:
    """The forward under no_grad and in inference mode: the same numbers, and no graph.

    A forward that relies on ctx, or on gradients being recorded, fails in evaluation.
    """
    yield Case("no_grad", bench.call, _without_gradients)
    yield Case("inference_mode", bench.call, _inference)


def _without_gradients(bench: Bench, call: Call) -> list[Problem]:
    with torch.no_grad():
        return _forward_only(bench, call)


def _inference(bench: Bench, call: Call) -> list[Problem]:
    with torch.inference_mode():
        return _forward_only(bench, call, "always")


def _forward_only(bench: Bench, call: Call, may_refuse: str = "never") -> list[Problem]:
    native = bench.refer(call)
    manual = try_manual(bench, call, may_refuse)
    if isinstance(manual, Problem):
        return [manual]
    problems = compare_outputs(bench, manual, native, Terms())
    if problems and native.drew and all(p.mismatch for p in problems):
        return []
    return problems + [
        Problem("graph", "output", "requires a gradient although gradients are switched off")
        for got, expected in zip(manual.outputs, native.outputs, strict=True)
        if got.requires_grad and not expected.requires_grad
    ]
