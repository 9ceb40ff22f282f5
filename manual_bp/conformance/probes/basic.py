"""The example call itself, with other cotangents, other layouts and other frozen inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.judge import judge as judge_call
from manual_bp.conformance.judge import raised_problem, try_manual
from manual_bp.conformance.layouts import COTANGENT_LAYOUTS, INPUT_LAYOUTS, repeats, suits
from manual_bp.conformance.probe import Case, case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.results import Terms
from manual_bp.conformance.run import Raised

__all__ = ["cotangents", "example", "frozen", "layouts", "outputs"]


@probe("example")
def example(bench: Bench) -> Iterator[Case]:
    """Outputs and gradients of the example call, under random cotangents.

    A cotangent of ones hides whatever sums to zero, and whatever takes one value for all:
    nn-zero-to-hero#45, Liger-Kernel#968.
    """
    yield case("as given", bench.call, strict_none=True)


@probe("frozen inputs")
def frozen(bench: Bench) -> Iterator[Case]:
    """Every subset of inputs that require a gradient.

    A backward that takes for granted that all do returns gradients in the wrong places, or trips
    over a None that it saved itself: an off-by-one in ``ctx.needs_input_grad``.
    """
    hint = "Look at ctx.needs_input_grad: which gradient is computed, and in whose place returned?"
    needs = sorted(bench.call.needs)
    sizes = range(len(needs)) if len(needs) <= 3 else (0, 1, len(needs) - 1)
    for size in sizes:
        for subset in combinations(needs, size):
            names = ", ".join(bench.name(i) for i in subset) or "nothing"
            yield case(f"only {names} requires a gradient", bench.call.with_needs(subset), hint)


@probe("unused outputs")
def outputs(bench: Bench) -> Iterator[Case]:
    """Each of several outputs used alone, so that the cotangents of the others are None.

    The second output's gradient is forgotten, or ``None`` is multiplied: pytorch#1712.
    """
    hint = "Look at the gradients of the outputs one by one: which is used, and what if it is None?"
    found = bench.outputs()
    if len(found) > 1:
        for i, output in enumerate(found):
            if output.requires_grad:
                yield case(f"only output {i} is used", bench.call, hint, only=i)


@probe("cotangents")
def cotangents(bench: Bench) -> Iterator[Case]:
    """Cotangents in every layout and of every size, with zeros, ones and one-hot.

    A kernel that assumes contiguous gradients reads the wrong numbers after a transpose, a narrow
    or an expand: pytorch#194719, pytorch#195210, flash-attention#355, FlagGems#5212. A backward is
    linear in its cotangent; one that clips or normalises is not, and one that replaces NaN hides
    the overflow that a loss scaler looks for.
    """
    hint = "The backward depends on the strides of grad_output: index it, or make it contiguous."
    found = [y for y in bench.outputs() if y.requires_grad]
    for layout in COTANGENT_LAYOUTS:
        if any(suits(layout, y) for y in found):
            yield case(f"cotangent {layout}", bench.call, hint, cotangent=layout)
    hint = "A gradient is linear in grad_output: nothing may be clipped, rounded or divided by it."
    for label, change in _changes(bench).items():
        yield case(f"cotangent {label}", bench.call, hint, change=change)
    hint = "An overflow has to reach whoever looks for it: replace neither NaN nor infinity."
    for value in (float("nan"), float("inf")):
        judge = partial(_judge_swallowed, value=value)
        yield Case(f"cotangent of {value}", bench.call, judge, hint, shrinks=False)


def _changes(bench: Bench) -> dict[str, Callable[[Tensor], Tensor]]:
    def one_hot(g: Tensor) -> Tensor:
        hot = torch.zeros_like(g)
        if g.numel():
            hot.view(-1)[int(bench.integers(0, g.numel(), ()))] = 1
        return hot

    def half_zero(g: Tensor) -> Tensor:
        return torch.where(bench.draw(g).real > 0, g, torch.zeros_like(g))

    return {
        "of ones": torch.ones_like,
        "of zeros": torch.zeros_like,
        "one-hot": one_hot,
        "half zeros": half_zero,
        "times 1e3": lambda g: g * 1e3,
        "times 1e20": lambda g: g * 1e20,
        "times 1e-20": lambda g: g * 1e-20,
    }


def _judge_swallowed(bench: Bench, call: Call, value: float) -> list[Problem]:
    """Gradients that are finite everywhere, where autograd's show what came from above."""
    native = bench.refer(call)
    given = [
        None if g is None else torch.full_like(g, value) for g in bench.cotangents(native.outputs)
    ]
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    try:
        expected = native.backward(given)
    except Raised as raised:
        raise LeftOut(f"the reference has no backward for it ({raised.message})") from None
    try:
        got = manual.backward(given)
    except Raised as raised:
        return [raised_problem(raised)]
    text = f"is finite although grad_output is {value}; autograd's is not"
    return [
        Problem("swallowed", f"gradient of {call.names[i]}", text)
        for i, reference in expected.items()
        if reference is not None
        and not bool(reference.isfinite().all())
        and ((grad := got[i]) is None or bool(grad.isfinite().all()))
    ]


def _judge_repeated(bench: Bench, call: Call) -> list[Problem]:
    """Tell memory that is shared from elements that are equal."""
    problems = judge_call(bench, call, Terms())
    if problems and judge_call(bench, call.with_layout("contiguous"), Terms()):
        hint = "The same numbers in memory of their own fail too: it is that elements are equal."
        return [replace(problem, hint=hint) for problem in problems]
    return problems


@probe("layouts")
def layouts(bench: Bench) -> Iterator[Case]:
    """Inputs in every layout: transposed, strided, expanded, with a storage offset.

    Code that walks through memory instead of through indices is right for contiguous inputs only:
    optimized-fused-ssim#1, pytorch#69997, pytorch#30303; for channels last, pytorch#140913.
    """
    hint = "The result depends on the strides of an input: index it, or make it contiguous."
    chosen = bench.call.floating if bench.structured else bench.call.tensors
    once = [i for i in chosen if i not in bench.written]  # each element in one place only
    for layout in INPUT_LAYOUTS:
        call = bench.call.with_layout(layout, once if repeats(layout) else chosen)
        if call.layouts != bench.call.layouts:
            judge = _judge_repeated if repeats(layout) else partial(judge_call, terms=Terms())
            yield Case(f"inputs {layout}", call, judge, hint)
    if len(chosen) > 1:
        for i in chosen:
            call = bench.call.with_layout("transposed", [i])
            if call.layouts != bench.call.layouts:
                yield case(f"{bench.name(i)} transposed", call, hint)
