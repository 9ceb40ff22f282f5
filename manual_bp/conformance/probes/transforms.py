"""torch.func and torch.compile: run only when asked for, compiling takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, flat_tensors, is_differentiable
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.judge import raised_problem
from manual_bp.conformance.probe import Case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.results import Terms, compare_gradients
from manual_bp.conformance.run import Forward, Raised, seed_all

__all__ = ["autocast", "compiled", "functional_grad", "jvp", "vmap"]

_UNSUPPORTED = (
    "setup_context",
    "generate_vmap_rule",
    "vmap staticmethod",
    "jvp",
    "forward-mode AD",
    "forward AD",
)


def _say(error: Exception) -> list[Problem]:
    """A transform that is not supported and says so is left out; anything else is a problem."""
    raised = Raised("forward", error)
    if isinstance(error, NotImplementedError) or any(w in str(error) for w in _UNSUPPORTED):
        raise LeftOut(f"not supported, and says so ({raised.message})") from None
    return [raised_problem(raised)]


def _scalar(function: Callable[..., Any], bench: Bench, call: Call) -> Callable[..., Tensor]:
    """The sum of squares of the outputs, as a function of the differentiated inputs."""
    needs = sorted(call.needs)

    def of_inputs(*values: Tensor) -> Tensor:
        made = call.make_with(dict(zip(needs, values, strict=True)))
        outputs = flat_tensors(function(*made.args, **made.kwargs))
        parts = [y.abs().square().sum() for y in outputs if is_differentiable(y)]
        return torch.stack(parts).sum()

    return of_inputs


def _compare(
    bench: Bench, subject: str, got: Any, expected: Any, rtol: float | None = None
) -> list[Problem]:
    problems = []
    for k, (a, b) in enumerate(zip(flat_tensors(got), flat_tensors(expected), strict=True)):
        mismatch = differ(a, b, rtol=rtol or bench.rtol, scale=largest(b))
        if mismatch:
            problems.append(Problem("transform", f"{subject} {k}", "differs", mismatch))
    return problems


def _through(
    bench: Bench, call: Call, subject: str, use: Callable[[Callable[..., Tensor]], Any]
) -> list[Problem]:
    """Apply a transform on both sides and compare."""
    seed_all(bench.seed)
    try:
        expected = use(_scalar(bench.reference, bench, call))
    except Exception as error:
        raise LeftOut(f"the reference does not go through it ({error})") from None
    seed_all(bench.seed)
    try:
        got = use(_scalar(bench.manual, bench, call))
    except Exception as error:
        return _say(error)
    return _compare(bench, subject, got, expected)


def _values(bench: Bench, call: Call) -> tuple[Tensor, ...]:
    if bench.own_numbers or not call.needs:
        raise LeftOut("there is nothing to compare: random numbers of its own, or no gradient")
    return tuple(call.leaves[i] for i in sorted(call.needs))


@probe("func.grad", optional=True)
def functional_grad(bench: Bench) -> Iterator[Case]:
    """torch.func.grad by every input; needs setup_context: pytorch#58509's successor style."""
    yield Case("torch.func.grad", bench.call, _judge_grad)


def _judge_grad(bench: Bench, call: Call) -> list[Problem]:
    values = _values(bench, call)
    places = tuple(range(len(values)))
    return _through(bench, call, "gradient", lambda f: torch.func.grad(f, places)(*values))


@probe("vmap", optional=True)
def vmap(bench: Bench) -> Iterator[Case]:
    """torch.func.vmap of the gradient: one gradient for each of three examples."""
    yield Case("vmap of grad", bench.call, _judge_vmap)


def _judge_vmap(bench: Bench, call: Call) -> list[Problem]:
    values = tuple(torch.stack([x, x * 0.5, x * 0.75]) for x in _values(bench, call))
    places = tuple(range(len(values)))
    return _through(
        bench,
        call,
        "gradient per example",
        lambda f: torch.func.vmap(torch.func.grad(f, places))(*values),
    )


@probe("jvp", optional=True)
def jvp(bench: Bench) -> Iterator[Case]:
    """Forward mode: the derivative along a direction, where a jvp is given."""
    yield Case("torch.func.jvp", bench.call, _judge_jvp)


def _judge_jvp(bench: Bench, call: Call) -> list[Problem]:
    values = _values(bench, call)
    directions = tuple(bench.draw(x) for x in values)
    return _through(bench, call, "derivative", lambda f: torch.func.jvp(f, values, directions))


@probe("compile", optional=True)
def compiled(bench: Bench) -> Iterator[Case]:
    """torch.compile with fullgraph: the same gradients. One has been dropped: pytorch#193279."""
    yield Case("torch.compile(fullgraph=True)", bench.call, _judge_compiled, shrinks=False)


def _judge_compiled(bench: Bench, call: Call) -> list[Problem]:
    native = bench.refer(call)
    cotangents = bench.cotangents(native.outputs)
    expected = native.backward(cotangents)
    torch.compiler.reset()
    function = torch.compile(bench.manual, fullgraph=True, backend="aot_eager")
    try:
        forward = Forward(function, call, bench.seed)
        got = forward.backward(cotangents)
    except Raised as raised:
        return [raised_problem(raised)]
    return compare_gradients(bench, call, got, expected, Terms(), cotangents)


@probe("autocast", optional=True)
def autocast(bench: Bench) -> Iterator[Case]:
    """Under autocast to bfloat16 with float32 inputs: gradients in the inputs' dtype, and close."""
    yield Case("autocast to bfloat16", bench.call.to(torch.float32), _judge_autocast)


def _judge_autocast(bench: Bench, call: Call) -> list[Problem]:
    device = next((call.leaves[i].device.type for i in call.tensors), "cpu")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            native = bench.refer(call)
        cotangents = bench.cotangents(native.outputs)
        expected = native.backward(cotangents)
    except Raised as raised:
        raise LeftOut(f"the reference refuses it ({raised.message})") from None
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            manual = Forward(bench.manual, call, bench.seed)
        wanted = [
            None if g is None else g.to(y.dtype)
            for g, y in zip(cotangents, manual.outputs, strict=True)
        ]
        got = manual.backward(wanted)
    except Raised as raised:
        return [raised_problem(raised)]
    return compare_gradients(bench, call, got, expected, Terms(rtol=0.05), cotangents)
