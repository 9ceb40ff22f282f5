"""Low precision: no worse than PyTorch's own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.judge import raised_problem, try_manual
from manual_bp.conformance.probe import Case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.resize import resize
from manual_bp.conformance.run import Raised

__all__ = ["bfloat16", "float16", "float32"]

_ROWS = 300


def _cases(bench: Bench, dtype: torch.dtype) -> Iterator[Case]:
    hint = (
        "More rounding than in PyTorch's own: sum and subtract in float32 (in float64 for "
        "float32 where terms cancel), and round once at the end."
    )
    call = bench.call.to(dtype)
    yield Case("as given", call, _judge_precision, hint)
    tensors = bench.call.tensors
    if not tensors or not bench.call.leaves[tensors[0]].dim():
        return
    for axis in bench.axes:
        if (tensors[0], 0) in axis.places:
            many = resize(bench, bench.call, axis, _ROWS).to(dtype)
            if sum(many.leaves[i].numel() for i in tensors) > 2**16:
                continue
            yield Case(f"{axis.describe(call)} = {_ROWS}", many, _judge_precision, hint)
            break
    if dtype is torch.float32:
        for i in bench.call.needs:
            shifted = bench.call.with_leaf(i, bench.call.leaves[i] + 1e4).to(dtype)
            yield Case(f"{bench.name(i)} plus 1e4", shifted, _judge_precision, hint)


@probe("float32")
def float32(bench: Bench) -> Iterator[Case]:
    """Error in float32, against float64, at most twice that of PyTorch's own.

    Formulas that cancel, sums in an unlucky order, a variance in one pass.
    """
    return _cases(bench, torch.float32)


@probe("bfloat16")
def bfloat16(bench: Bench) -> Iterator[Case]:
    """Error in bfloat16, against float64, at most twice that of PyTorch's own.

    Sums over the batch kept in bfloat16 stop growing after 256 terms: Liger-Kernel#950,
    llm.c#476.
    """
    return _cases(bench, torch.bfloat16)


@probe("float16")
def float16(bench: Bench) -> Iterator[Case]:
    """Error in float16, against float64, at most twice that of PyTorch's own.

    A detour through bfloat16 costs three bits: Liger-Kernel#1253.
    """
    return _cases(bench, torch.float16)


def _judge_precision(bench: Bench, call: Call) -> list[Problem]:
    """The rule of twice the reference's own error, outputs and gradients."""
    native = bench.refer(call)
    exact = bench.refer(call.to(torch.float64))
    cotangents = [
        # Of one sign in the mean, as gradients of a loss are: sums then grow with the batch.
        None if g is None else (g + 0.5 if not g.is_complex() else g)
        for g in bench.cotangents(native.outputs)
    ]
    wide = [None if g is None else g.to(y.dtype) for g, y in zip(cotangents, exact.outputs)]  # noqa: B905
    try:
        low, reference = native.backward(cotangents), exact.backward(wide)
    except Raised as raised:
        raise LeftOut(f"the reference refuses it ({raised.message})") from None
    if native.drew and any(
        _error(a, b)[1] > 0.1 * _norm(b)
        for a, b in zip(native.outputs, exact.outputs, strict=True)
        if is_differentiable(a)
    ):
        raise LeftOut("the reference's random numbers depend on the dtype")
    manual = try_manual(bench, call, "always")
    if isinstance(manual, Problem):
        return [manual]
    try:
        got = manual.backward(cotangents)
    except Raised as raised:
        return [raised_problem(raised)]
    problems = []
    for k, (mine, theirs, true) in enumerate(
        zip(manual.outputs, native.outputs, exact.outputs, strict=False)
    ):
        if is_differentiable(theirs):
            subject = "output" if len(native.outputs) == 1 else f"output {k}"
            if not (native.drew and _error(mine, true)[1] > 0.1 * _norm(true)):
                problems += _compare(subject, mine, theirs, true)
    if native.drew and bench.own_numbers:
        return problems
    for i, grad in reference.items():
        own, given = low[i], got[i]
        if grad is not None and own is not None and given is not None:
            problems += _compare(f"gradient of {call.names[i]}", given, own, grad)
    return problems


def _compare(subject: str, mine: Tensor, theirs: Tensor, true: Tensor) -> list[Problem]:
    mine, theirs, true = mine.detach(), theirs.detach(), true.detach()
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        text = f"is {mine.dtype} {tuple(mine.shape)}, the input {theirs.dtype}"
        return [Problem("shape", subject, f"{text} {tuple(theirs.shape)}")]
    asked = theirs.isfinite() & true.isfinite()
    if not bool(asked.any()):
        return []
    mine = torch.where(asked, mine, 0)
    theirs, true = torch.where(asked, theirs, 0), torch.where(asked, true, 0)
    eps = torch.finfo(theirs.dtype).eps
    worst, mean = _error(mine, true)
    own_worst, own_mean = _error(theirs, true)
    top, norm = largest(true), _norm(true)
    if worst <= 2 * own_worst + 4 * eps * top and mean <= 2 * own_mean + 0.75 * eps * norm:
        return []
    mismatch = differ(mine.to(true.dtype), true, rtol=0.0)
    ratio = mean / own_mean if own_mean else float("inf")
    dtype = str(theirs.dtype).removeprefix("torch.")
    text = (
        f"is off by {_relative(mean, norm)} in {dtype} (root mean square, against float64), "
        f"PyTorch's own by {_relative(own_mean, norm)}: {ratio:.3g} times as much"
    )
    return [Problem("precision", subject, text, mismatch)]


def _relative(error: float, size: float) -> str:
    return f"{error / size:.2g}" if size else f"{error:.2g}"


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.detach().to(_wide(x))))


def _wide(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.is_complex() else torch.float64


def _error(low: Tensor, true: Tensor) -> tuple[float, float]:
    """Largest error and norm of the error; infinite where a finite number is not one."""
    if low.shape != true.shape:
        return float("inf"), float("inf")
    distance = (low.detach().to(_wide(true)) - true.detach()).abs().nan_to_num(float("inf"))
    if not distance.numel():
        return 0.0, 0.0
    return float(distance.max()), float(torch.linalg.vector_norm(distance))
