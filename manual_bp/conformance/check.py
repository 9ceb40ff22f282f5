"""``check()``: is a hand-written gradient the one that autograd computes?"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, parameter_names
from manual_bp.conformance.clues import clues
from manual_bp.conformance.modules import as_functions
from manual_bp.conformance.probe import Case, Probe
from manual_bp.conformance.probes import PROBES
from manual_bp.conformance.report import (
    FAILED,
    LEFT_OUT,
    NOT_RUN,
    NOTHING,
    PASSED,
    Failure,
    ProbeResult,
    Problem,
    Report,
)
from manual_bp.conformance.run import Forward, Raised, keep_random_state
from manual_bp.conformance.settings import one_thread
from manual_bp.conformance.shrink import shown_values, shrink
from manual_bp.conformance.watchdog import TookTooLong, Watchdog

__all__ = ["assert_equivalent", "check"]

_RTOL = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}

Limit = Callable[[float], AbstractContextManager[None]]


def check(
    manual: Callable[..., Any],
    autograd: Callable[..., Any],
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    probes: Collection[str] | None = None,
    skip: Collection[str] = (),
    transforms: bool = False,
    dtype: torch.dtype | None = None,
    rtol: float | None = None,
    keep_going: bool = False,
    fail_fast: bool = False,
    timeout: float = 10.0,
    name: str | None = None,
) -> Report:
    """Compare a function with a hand-written gradient to one that autograd differentiates.

    The example call is repeated on both sides with everything changed that a right gradient does
    not depend on. Inputs are copied for every call and never modified. The comparison is made in
    ``dtype``; what counts as equal is said in :mod:`manual_bp.conformance.compare`.

    Args:
        manual: The function under test: any callable, such as a ``Function.apply``. Of two
            modules with the same parameters, these are differentiated too, and their values are
            the reference's on both sides.
        autograd: The reference, called with the same arguments.
        inputs: Positional arguments of one call. Tensors that require a gradient are
            differentiated and the others are constants; where none does, every floating-point
            tensor is differentiated that the reference has a gradient for.
        kwargs: Keyword arguments of the call.
        seed: Of all that is drawn; the global random state is left as it was.
        probes: Names of the probes to run; all the usual ones where None.
        skip: Names of probes to leave out.
        transforms: Also run those for torch.func, autocast and torch.compile.
        dtype: Of the comparison; float64 where None, or that of the example where ``manual``
            takes no other, as a kernel compiled for float32.
        rtol: Largest difference that is accepted, relative to the largest element: 1e-10 in
            float64 by default, and what rounding needs in other dtypes.
        keep_going: Run all probes even where the example call itself is wrong.
        fail_fast: Stop at the first probe that finds something.
        timeout: Seconds that a single case may take before it counts as hanging.
        name: Of the function, in the report.

    Returns:
        A report: ``.passed``, ``.failures``, ``print(report)``.

    Raises:
        ValueError: for an unknown probe, and for an example call that the reference refuses.

    Example:
        >>> import torch
        >>> report = check(torch.sigmoid, torch.nn.functional.sigmoid, torch.randn(3, 4))
        >>> report.passed
        True
    """
    chosen = _choose(probes, skip, transforms)
    manual, autograd, inputs, given = as_functions(manual, autograd, inputs, kwargs or {})
    call = Call.of(inputs, given, parameter_names(manual, autograd))
    results: list[ProbeResult] = []
    quiet = warnings.catch_warnings()
    with one_thread(), keep_random_state(), torch.enable_grad(), quiet, Watchdog() as watchdog:
        # Derived calls are made on purpose with what deserves a warning (broadcast losses).
        warnings.simplefilter("ignore")
        note = ""
        if dtype is None:
            dtype, note = _dtype(manual, call, seed, watchdog.limit, timeout)
        bench = Bench(manual, autograd, call.to(dtype), rtol=rtol or _RTOL[dtype], seed=seed)
        stop = ""
        for probe in chosen:
            if stop:
                results.append(_not_run(probe, stop))
                continue
            results.append(_run(probe, bench, watchdog.limit, timeout))
            if fail_fast and results[-1].status == FAILED:
                stop = f"{probe.name!r} failed already"
            if probe.name == "example" and results[-1].status == LEFT_OUT:
                (reason,) = results[-1].reasons
                raise ValueError(f"the example call cannot be compared: {reason}")
            if probe.name == "example" and results[-1].status == FAILED and not keep_going:
                stop = "the example call itself is wrong: put that right first"
    return Report(
        manual=name or _name(manual),
        reference=_name(autograd),
        call=bench.call.describe(),
        seed=seed,
        probes=tuple(results),
        agreement=dict(bench.agreement),
        note=note,
    )


def _dtype(
    manual: Callable[..., Any], call: Call, seed: int, limit: Limit, timeout: float
) -> tuple[torch.dtype, str]:
    """The dtype to compare in, and what there is to say about it."""
    given = {call.leaves[i].real.dtype for i in call.floating}
    if given <= {torch.float64} or len(given) > 1:
        return torch.float64, ""
    own = given.pop()
    name = str(own).removeprefix("torch.")
    refusal = _refusal(manual, call.to(torch.float64), seed, limit, timeout)
    if not refusal or own not in _RTOL or _refusal(manual, call, seed, limit, timeout):
        return torch.float64, f"the example is {name}; compared in float64, which sees more"
    return own, f"compared in {name}, which sees less: float64 is refused ({refusal})"


def _refusal(
    manual: Callable[..., Any], call: Call, seed: int, limit: Limit, timeout: float
) -> str:
    """What a call, or its backward, raises; empty where it goes through."""
    try:
        with limit(timeout):
            forward = Forward(manual, call, seed)
            forward.backward(
                [torch.ones_like(y) if y.requires_grad else None for y in forward.outputs]
            )
    except Raised as raised:
        return raised.message
    except TookTooLong:
        return f"it does not end within {timeout:g} s"
    return ""


def assert_equivalent(
    manual: Callable[..., Any], autograd: Callable[..., Any], *inputs: Any, **options: Any
) -> None:
    """Fail, with the report as the message, where :func:`check` finds anything.

    Args:
        manual: The function under test.
        autograd: The reference.
        inputs: Positional arguments of one call.
        options: As in :func:`check`.

    Raises:
        AssertionError: with the whole report.
    """
    __tracebackhide__ = True
    report = check(manual, autograd, *inputs, **options)
    if not report.passed:
        raise AssertionError("\n" + report.text())


def _choose(probes: Collection[str] | None, skip: Collection[str], transforms: bool) -> list[Probe]:
    known = {probe.name for probe in PROBES}
    for name in (*(probes or ()), *skip):
        if name not in known:
            near = get_close_matches(name, known, 1)
            meant = (
                f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            )
            raise ValueError(f"there is no probe {name!r}; {meant}")
    return [
        probe
        for probe in PROBES
        if (
            (transforms or not probe.optional)
            if probes is None
            else probe.name in probes or (transforms and probe.optional)
        )
        and probe.name not in skip
    ]


def _name(function: Callable[..., Any]) -> str:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return owner.__name__
    return getattr(function, "__name__", type(function).__name__)


def _not_run(probe: Probe, reason: str) -> ProbeResult:
    return ProbeResult(probe.name, probe.finds, NOT_RUN, 0, {reason: 1}, (), 0.0)


def _run(probe: Probe, bench: Bench, limit: Limit, timeout: float) -> ProbeResult:
    start = time.perf_counter()
    reasons: Counter[str] = Counter()
    failures: list[Failure] = []
    count = 0
    for case in probe.cases(bench):
        try:
            problems = _judge(case, bench, limit, timeout)
        except LeftOut as left_out:
            reasons[str(left_out)] += 1
            continue
        count += 1
        if problems:
            failures += [_failure(probe, case, problem, bench) for problem in problems]
            break
    status = FAILED if failures else PASSED if count else LEFT_OUT
    if not count and not reasons:
        reasons[NOTHING] += 1
    return ProbeResult(
        probe.name,
        probe.finds,
        status,
        count,
        dict(reasons),
        tuple(failures),
        time.perf_counter() - start,
    )


def _judge(case: Case, bench: Bench, limit: Limit, timeout: float) -> list[Problem]:
    """Judge a case; whatever goes wrong meanwhile is a problem, not a traceback."""
    mode = torch.is_grad_enabled()
    try:
        with limit(timeout):
            return case.judge(bench, case.call)
    except LeftOut:
        raise
    except TookTooLong:
        return [Problem("hangs", "the call", f"did not end within {timeout:g} s")]
    except Exception as error:
        text = f"cannot be compared: {type(error).__name__}: {error}"
        return [Problem("raised", "the result", text)]
    finally:
        torch.set_grad_enabled(mode)


def _failure(probe: Probe, case: Case, problem: Problem, bench: Bench) -> Failure:
    mismatch = problem.mismatch
    # Patterns are read off the large call: in a small one everything is a constant factor.
    found = clues(problem.subject, mismatch, case.call, problem.known) if mismatch else []
    call = case.call
    if problem.kind != "hangs":
        call, problem = shrink(bench, case, problem)
    if call.describe() != case.call.describe():
        found = [f"at full size, {clue}" for clue in found]
    if not problem.hint and case.hint:
        problem = replace(problem, hint=case.hint)
    return Failure(
        probe=probe.name,
        case=case.label,
        call=call.describe(),
        problem=problem,
        clues=tuple(found),
        values=shown_values(call),
    )
