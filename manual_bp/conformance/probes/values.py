"""Special values: zeros, kinks, ties, very large and very small numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.domain import Domain
from manual_bp.conformance.kinks import corners
from manual_bp.conformance.probe import Case, case, probe
from manual_bp.conformance.results import CLOSE

__all__ = ["extremes", "kinks", "signs", "ties", "zeros"]

_KINKS = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0, 20.0, -20.0)
_SCALES = (1e-20, 1e-6, 1e-3, 30.0, 1e3, 1e18)


def _groups(bench: Bench) -> list[tuple[int, ...]]:
    """Each differentiated input whose values are free, and all of them together."""
    free = tuple(
        i
        for i in sorted(bench.call.needs)
        if Domain.of(bench.call.leaves[i]) not in (Domain.CATEGORICAL, Domain.SIMPLEX)
        and bench.call.leaves[i].numel()
    )
    groups: list[tuple[int, ...]] = [(i,) for i in free]
    return [*groups, free] if len(free) > 1 else groups


def _names(bench: Bench, chosen: Sequence[int]) -> str:
    return ", ".join(bench.name(i) for i in chosen)


def _accepted(bench: Bench, call: Call) -> bool:
    """Whether the reference has a finite result for a call."""
    try:
        return all(bool(y.isfinite().all()) for y in bench.refer(call).outputs)
    except LeftOut:
        return False


def _vary(bench: Bench, chosen: Sequence[int], change: Callable[[Tensor], Tensor]) -> Call:
    return bench.call.with_leaves({i: change(bench.call.leaves[i]) for i in chosen})


@probe("zeros")
def zeros(bench: Bench) -> Iterator[Case]:
    """Inputs with one zero, some, a row of them, nothing else.

    A gradient that divides by its input, or by a norm, is NaN there although the derivative is
    not: pytorch#773, tensorflow#3862, tt-metal#54551. A mask read off the output takes a kept zero
    for a dropped one.
    """
    hint = "The backward divides by something that is zero here, or takes zero for a sign."

    def one(x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        x.view(-1)[int(bench.integers(0, x.numel(), ()))] = 0
        return x

    def some(x: Tensor) -> Tensor:
        keep = torch.rand(x.shape, generator=bench.generator).to(x.device) > 0.3
        return torch.where(keep, x, torch.zeros_like(x))

    def row(x: Tensor) -> Tensor:
        x = x.clone()
        x[(0,) if x.dim() else ()] = 0
        return x

    for chosen in _groups(bench):
        for label, change in (
            ("one zero", one),
            ("some zeros", some),
            ("a row of zeros", row),
            ("zeros only", torch.zeros_like),
        ):
            call = _vary(bench, chosen, change)
            yield case(f"{label} in {_names(bench, chosen)}", call, hint, finite=True)


@probe("kinks")
def kinks(bench: Bench) -> Iterator[Case]:
    """Inputs exactly at corners, bounds and thresholds, where the choice is PyTorch's.

    ``>=`` in place of ``>``: relu at 0, clamp and hardtanh at their bounds: pytorch#184572,
    pytorch#184574, torch/nn#1180. Corners of an elementwise reference are searched for; whole and
    half numbers and the call's own numbers are tried in any case.
    """
    hint = "At a kink the subgradient is a choice: compare > with >=, and sign(0) with 1."
    numbers = {
        float(leaf)
        for leaf in bench.call.leaves
        if isinstance(leaf, (int, float)) and not isinstance(leaf, bool) and abs(leaf) < 1e6
    }
    for chosen in _groups(bench):
        found = corners(bench, chosen[0]) if len(chosen) == 1 else []
        pool = [*_KINKS, *sorted(numbers | {-n for n in numbers}), *found]
        allowed = _allowed(bench, chosen, pool)
        if not allowed:
            yield case(
                f"kinks in {_names(bench, chosen)}", _vary(bench, chosen, _zero), finite=True
            )
            continue
        smallest = min(bench.call.leaves[i].numel() for i in chosen)
        for turn in range(min(8, 1 + 2 * len(allowed) // smallest)):
            call = _vary(bench, chosen, partial(_place, bench, pool=allowed, turn=turn))
            label = f"{_names(bench, chosen)} at whole and half numbers, corners and bounds"
            # A choice at a kink is wrong by far; beside twenties, little else is exact.
            yield case(label, call, hint, rtol=CLOSE, finite=True)


def _zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _allowed(bench: Bench, chosen: Sequence[int], pool: list[float]) -> list[float]:
    """The largest part of the pool for which the reference has finite results."""
    for part in (
        pool,
        [v for v in pool if v != 0],
        [v for v in pool if abs(v) <= 1],
        [v for v in pool if v >= 0],
        [v for v in pool if v > 0],
        [v for v in pool if 0 <= v <= 1],
        [v for v in pool if 0 < v <= 1],
    ):
        if part and _accepted(
            bench, _vary(bench, chosen, partial(_place, bench, pool=part, turn=0))
        ):
            return part
    return []


def _place(bench: Bench, x: Tensor, pool: Sequence[float], turn: int) -> Tensor:
    """``x`` with most of its elements replaced, in random places, by the pool's in turn."""
    count = x.numel()
    taken = max(1, round(0.8 * count))
    places = torch.randperm(count, generator=bench.generator)[:taken].to(x.device)
    start = turn * taken
    values = [pool[(start + k) % len(pool)] for k in range(taken)]
    flat = x.reshape(-1).clone()
    flat[places] = torch.tensor(values, dtype=torch.float64, device=x.device).to(x.dtype)
    return flat.view(x.shape)


@probe("ties")
def ties(bench: Bench) -> Iterator[Case]:
    """Equal elements: a few values only, one value only, one input equal to another.

    max and sort choose, amax and maximum share among ties: Theano#4568, pytorch#191142. The
    difference of two inputs is exactly zero: the sign in an L1 loss, pytorch#7002.
    """
    hint = "Among equal elements the gradient is a choice: all of it to one, or shared."

    def few(x: Tensor) -> Tensor:
        flat = x.reshape(-1)
        drawn = flat[bench.integers(0, min(3, len(flat)), (len(flat),)).to(x.device)]
        return drawn.view(x.shape)

    def rows(x: Tensor) -> Tensor:
        return x[..., :1].expand(x.shape).clone() if x.dim() else x.clone()

    def level(x: Tensor) -> Tensor:
        return torch.full_like(x, 0.5)

    for chosen in _groups(bench):
        for label, change in (
            ("three values only", few),
            ("each row of one value", rows),
            ("one value only", level),
        ):
            call = _vary(bench, chosen, change)
            yield case(f"{_names(bench, chosen)}: {label}", call, hint, finite=True)
    yield from _equal_inputs(bench, hint)


def _equal_inputs(bench: Bench, hint: str) -> Iterator[Case]:
    call = bench.call
    for i in sorted(call.needs):
        for j in call.floating:
            x, other = call.leaves[i], call.leaves[j]
            if i == j or (j in call.needs and j < i) or x.shape != other.shape:
                continue
            half = torch.rand(x.shape, generator=bench.generator).to(x.device) > 0.5
            for label, where in (("partly", half), ("everywhere", torch.ones_like(half))):
                equal = call.with_leaf(i, torch.where(where, other, x))
                name = f"{bench.name(i)} {label} equal to {bench.name(j)}"
                yield case(name, equal, hint, finite=True)


@probe("extremes")
def extremes(bench: Bench) -> Iterator[Case]:
    """Very large and very small inputs, a large offset, infinities in places.

    exp overflows where the forward is stable, an eps is forgotten that only a small variance
    shows, a threshold cuts off what is small, one-pass variances cancel at a large mean.
    """
    hint = "Right in the middle only: look for an overflow, an eps or a clamp."
    for chosen in _groups(bench):
        names = _names(bench, chosen)
        for scale in _SCALES:
            call = _vary(bench, chosen, partial(torch.mul, other=scale))
            label = f"{names} times {scale:g}"
            yield case(label, call, hint, rtol=CLOSE, finite=True, conditioned=True, extreme=True)
        for offset in (1e4, 1e6):
            call = _vary(bench, chosen, partial(torch.add, other=offset))
            label = f"{names} plus {offset:g}"
            yield case(label, call, hint, rtol=CLOSE, finite=True, conditioned=True, extreme=True)
    for chosen in _groups(bench):
        for infinite in (float("-inf"), float("inf")):
            if len(chosen) == 1:
                call = _vary(bench, chosen, partial(_put, bench, value=infinite))
                label = f"{infinite} in places of {_names(bench, chosen)}"
                yield case(label, call, hint, finite=True, output_may_differ=True)


def _put(bench: Bench, x: Tensor, value: float) -> Tensor:
    """``x`` with one element in seven replaced, at least one."""
    flat = x.reshape(-1).clone()
    count = max(1, x.numel() // 7)
    flat[torch.randperm(x.numel(), generator=bench.generator)[:count].to(x.device)] = value
    return flat.view(x.shape)


@probe("signs")
def signs(bench: Bench) -> Iterator[Case]:
    """Inputs of the other sign, of one sign, mixed anew.

    |y| for y in the derivative of a quotient: right as long as the example is positive.
    """
    hint = "Right for one sign of the input: look for abs, sqrt of a square, a power."
    for chosen in _groups(bench):
        names = _names(bench, chosen)
        for label, change in (
            ("negated", torch.neg),
            ("made positive", lambda x: x.abs() if not x.is_complex() else x.conj().resolve_conj()),
            ("made negative", lambda x: -x.abs() if not x.is_complex() else -x),
        ):
            call = _vary(bench, chosen, change)
            yield case(f"{names} {label}", call, hint, finite=True)
