"""The short range of float16: what overflows or vanishes on the way to an ordinary gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.domain import Domain
from manual_bp.conformance.judge import raised_problem, try_manual
from manual_bp.conformance.probe import Case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.rounding import Rounding, error, norm
from manual_bp.conformance.run import Raised

__all__ = ["float16_range"]

# Its square overflows (65504), and that of a quarter of it.
_SIZE = 1000.0

# Below, float16 has few digits left for any gradient.
_TINY = 8 * torch.finfo(torch.float16).tiny

# An error of this share of the whole is no rounding, where an ulp in the inputs moves it by less
# than the second.
_SHARE, _DECIDED = 0.1, 0.02


@probe("float16 range")
def float16_range(bench: Bench) -> Iterator[Case]:
    """Inputs up to a thousand in float16: no gradient is silently lost.

    The square of an ordinary activation is infinite in half precision, and one over it zero:
    LeetCUDA#335. Only asked where PyTorch's own gradient is right, and the function's own output
    too. A gradient that is NaN or infinite is left alone: whoever trains in float16 looks for it.
    """
    hint = "An intermediate overflows or underflows in float16: compute it in float32."
    for i in sorted(bench.call.needs):
        x = bench.call.leaves[i]
        top = largest(x)
        if not top or Domain.of(x) not in (Domain.ANY, Domain.POSITIVE):
            continue
        call = bench.call.with_leaf(i, x * (_SIZE / top)).to(torch.float16)
        yield Case(f"{bench.name(i)} up to {_SIZE:g}", call, _judge, hint)


def _judge(bench: Bench, call: Call) -> list[Problem]:
    if bench.own_numbers:
        raise LeftOut("both sides draw random numbers of their own")
    native, exact = bench.refer(call), bench.refer(call.to(torch.float64))
    manual = try_manual(bench, call, "always")
    if isinstance(manual, Problem):
        return [manual]
    for mine, true in zip(manual.outputs, exact.outputs, strict=False):
        if is_differentiable(true) and not _near(mine, true):
            raise LeftOut("the outputs differ already")
    cotangents = bench.cotangents(native.outputs)
    wide = [
        None if g is None else g.to(y.dtype) for g, y in zip(cotangents, exact.outputs, strict=True)
    ]
    try:
        theirs, true_grads = native.backward(cotangents), exact.backward(wide)
    except Raised as raised:
        raise LeftOut(f"the reference has no backward for it ({raised.message})") from None
    try:
        grads = manual.backward(cotangents)
    except Raised as raised:
        return [raised_problem(raised)]
    rounding = Rounding(bench, call, exact, true_grads, wide)
    problems = []
    for i, best in true_grads.items():
        got, own = grads[i], theirs[i]
        if best is None or own is None or got is None or not bool(got.isfinite().all()):
            continue
        if largest(best) < _TINY or not _near(own, best):
            continue
        if rounding.of_gradient(i)[1] > _DECIDED * norm(best):
            continue
        if not _near(got, best):
            text = "is lost in float16, PyTorch's own is right"
            mismatch = differ(got.to(best.dtype), best, rtol=0.0)
            problems.append(Problem("range", f"gradient of {call.names[i]}", text, mismatch))
    return problems


def _near(low: Tensor, true: Tensor) -> bool:
    """Whether a result in low precision is finite, and not off by a good part of the whole."""
    return error(low, true)[1] <= _SHARE * norm(true)
