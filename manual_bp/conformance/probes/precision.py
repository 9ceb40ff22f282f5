"""Low precision: no worse than PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.compare import differ, largest
from manual_bp.conformance.judge import raised_problem, try_manual
from manual_bp.conformance.probe import Case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.resize import resize
from manual_bp.conformance.rounding import Rounding, error, norm
from manual_bp.conformance.run import Forward, Raised

__all__ = ["bfloat16", "float16", "float32"]

_ROWS = 300
_SMALL, _DRAWS = 2**14, 6

# From how many eps on, when each input moves by one, a call counts as ill-conditioned: then errors
# that a whole row has in common, as of its mean, weigh several times as much as independent ones.
_AMPLIFIED = 16

# A root mean square error that is always accepted, in eps of the dtype. Half precision is summed
# in float32 and rounded once or a few times; a sum in float32 itself rounds at every term, and in
# which order is the business of the matrix library.
_FLOOR = {
    torch.float32: 8.0,
    torch.complex64: 8.0,
    torch.bfloat16: 0.3,
    torch.float16: 0.3,
    torch.complex32: 0.3,
}
# And more for few elements, over their number: four may all be rounded the same way.
_CHANCE = 2.0


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
            if sum(many.leaves[i].numel() for i in tensors) <= 2**16:
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
    if native.drew and _drew_otherwise(native.outputs, exact.outputs):
        raise LeftOut("the reference's random numbers depend on the dtype")
    small = sum(call.leaves[i].numel() for i in call.tensors) <= _SMALL
    # The error of a few elements is chance; several cotangents make it a measurement.
    draws = [_cotangents(bench, native) for _ in range(_DRAWS if small else 1)]
    wide = [
        [None if g is None else g.to(y.dtype) for g, y in zip(draw, exact.outputs, strict=True)]
        for draw in draws
    ]
    try:
        low = [native.backward(draw, retain_graph=True) for draw in draws]
        true = [exact.backward(draw, retain_graph=True) for draw in wide]
    except Raised as raised:
        raise LeftOut(f"the reference refuses it ({raised.message})") from None
    manual = try_manual(bench, call, "always")
    if isinstance(manual, Problem):
        return [manual]
    try:
        got = [manual.backward(draw, retain_graph=True) for draw in draws]
    except Raised as raised:
        return [raised_problem(raised)]
    own_numbers = native.drew and _drew_otherwise(manual.outputs, exact.outputs)
    if own_numbers:
        raise LeftOut("both sides draw random numbers of their own")
    rounding = Rounding(bench, call, exact, true[0], wide[0])
    problems = []
    for k, results in enumerate(zip(manual.outputs, native.outputs, exact.outputs, strict=False)):
        if is_differentiable(results[1]):
            subject = "output" if len(native.outputs) == 1 else f"output {k}"
            problems += _compare(subject, [results], partial(rounding.of_output, k))
    for i in sorted(call.needs):
        triples = [
            (mine, theirs, best)
            for mine, theirs, best in zip(
                (grads[i] for grads in got),
                (grads[i] for grads in low),
                (grads[i] for grads in true),
                strict=True,
            )
            if mine is not None and theirs is not None and best is not None
        ]
        subject = f"gradient of {call.names[i]}"
        if triples:
            problems += _compare(subject, triples, partial(rounding.of_gradient, i))
    return problems


def _cotangents(bench: Bench, native: Forward) -> list[Tensor | None]:
    """Of one sign in the mean, as gradients of a loss are: sums then grow with the batch."""
    return [g if g is None or g.is_complex() else g + 0.5 for g in bench.cotangents(native.outputs)]


def _drew_otherwise(low: list[Tensor], exact: list[Tensor]) -> bool:
    """Whether random results differ by more than rounding explains."""
    pairs = [(a, b) for a, b in zip(low, exact, strict=False) if is_differentiable(a)]
    return any(error(a, b)[1] > 0.1 * norm(b) for a, b in pairs)


def _compare(
    subject: str,
    triples: list[tuple[Tensor, Tensor, Tensor]],
    unavoidable: Callable[[], tuple[float, float]],
) -> list[Problem]:
    """Compare results by hand and by autograd with the exact ones, over all draws together."""
    mine, theirs, _ = triples[0]
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        text = f"is {mine.dtype} {tuple(mine.shape)}, autograd's {theirs.dtype}"
        return [Problem("shape", subject, f"{text} {tuple(theirs.shape)}")]
    errors = _Errors(*(torch.stack([t.detach() for t in part]) for part in zip(*triples)))  # noqa: B905
    if errors.acceptable((0.0, 0.0)):
        return []
    if errors.acceptable(unavoidable()):
        return []
    worst = max(triples, key=lambda triple: error(triple[0], triple[2])[0])
    mismatch = differ(worst[0].to(worst[2].dtype), worst[2], rtol=0.0)
    dtype = str(theirs.dtype).removeprefix("torch.")
    ratio = errors.mean / errors.own_mean if errors.own_mean else float("inf")
    text = (
        f"is off by {_relative(errors.mean, errors.norm)} in {dtype} (root mean square, against "
        f"float64), PyTorch's own by {_relative(errors.own_mean, errors.norm)}: {ratio:.3g} times "
        "as much"
    )
    return [Problem("precision", subject, text, mismatch)]


class _Errors:
    """Errors of a result and of autograd's, where autograd's is finite."""

    def __init__(self, mine: Tensor, theirs: Tensor, true: Tensor) -> None:
        asked = theirs.isfinite() & true.isfinite()
        mine, theirs, true = (torch.where(asked, t, 0) for t in (mine, theirs, true))
        self.draws = len(mine)
        self.worst, self.mean = error(mine, true)
        self.own_worst, self.own_mean = error(theirs, true)
        self.norm = norm(true)
        self.eps = torch.finfo(theirs.dtype).eps
        # The root mean square of a few roundings is chance, autograd's own as well.
        floor = _FLOOR.get(theirs.dtype, 4.0) + _CHANCE / max(mine.numel(), 1)
        self._most = 2 * self.own_worst + max(4.0, 2 * floor) * self.eps * largest(true)
        self._usual = 2 * self.own_mean + floor * self.eps * self.norm

    def acceptable(self, more: tuple[float, float]) -> bool:
        """Whether the rule holds, or the error is what moving the inputs by an ulp makes."""
        worst, mean = more
        times = 4 if mean > _AMPLIFIED * self.eps * self.norm / self.draws**0.5 else 1
        most = self._most + 2 * times * worst
        return self.worst <= most and self.mean <= max(self._usual, times * mean * self.draws**0.5)


def _relative(error: float, size: float) -> str:
    return f"{error / size:.2g}" if size else f"{error:.2g}"
