"""Where the first NaN or infinity comes from, forward or backward."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils._pytree import tree_leaves

from manual_bp.explain.diagnosis.call import Call, Key, Passage
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.domains import why
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.reach import shortened
from manual_bp.explain.diagnosis.summary import Summary, number, summarize
from manual_bp.wording import counted

__all__ = ["is_finite", "not_finite"]


def is_finite(case: Case) -> bool:
    """Whether the loss and every gradient is."""
    gradients = [g for g in case.gradients.values() if g is not None]
    return bool(case.loss.isfinite().all()) and all(summarize(g).finite for g in gradients)


def not_finite(case: Case) -> Iterator[Finding]:
    """What is not finite although all that it was made from is.

    An infinity is no fault by itself: a mask adds -inf to the scores of attention on purpose. So
    the search starts where one does harm, at a loss or a gradient that is not finite, and goes
    back from there. Parameters are no place for either, whatever they do.
    """
    spoiled = {
        name: summary
        for name, parameter in case.parameters.items()
        if not (summary := summarize(parameter, name)).finite
    }
    if spoiled:
        yield _parameters(case, spoiled)
    known = {id(case.parameters[name]) for name in spoiled}
    finite = bool(case.loss.isfinite().all())
    for name, tensor in case.given.items():
        summary = summarize(tensor, name)
        if summary.nan or (summary.inf and not finite):
            known.add(id(tensor))
            yield Finding(
                "input not finite",
                name,
                f"{_part(summary)}.",
                tensors=(summary,),
                numbers={"nan": summary.nan, "inf": summary.inf, "size": summary.size},
                severity="error",
            )
    if not finite:
        call = _origin(case, known)
        if call is not None:
            yield _forward(case, call)
    elif not is_finite(case):
        passage = _leak(case)
        yield _backward(case, passage) if passage else _overflow(case)


def _parameters(case: Case, spoiled: dict[str, Summary]) -> Finding:
    """One finding: what is spoiled spoils the rest within a step."""
    first = {name: next(iter(case.watch.uses(case.parameters[name])), None) for name in spoiled}
    name = min(spoiled, key=lambda n: call.index if (call := first[n]) else len(case.watch.calls))
    summary, call = spoiled[name], first[name]
    text = f"{_part(summary)}, the first at {_at(summary)}. "
    text += f"{call.title} is the first to use it." if call else "No operation used it."
    if len(spoiled) > 1:
        others = shortened([other for other in spoiled if other != name])
        text += f" Spoiled as well: {others}."
    return Finding(
        "parameter not finite",
        name,
        text,
        operation=call.name if call else "",
        tensors=(summary,),
        numbers={"parameters": list(spoiled), "nan": summary.nan, "inf": summary.inf},
        severity="error",
    )


def _at(summary: Summary) -> str:
    return f"[{', '.join(map(str, summary.first or ()))}]"


def _origin(case: Case, known: set[int]) -> Call | None:
    """The earliest call that made NaN or infinity from finite numbers and led to the loss."""
    watch = case.watch
    start = watch.maker(case.loss)
    waiting, seen, origins = [start] if start else [], set(), []
    while waiting:
        call = waiting.pop()
        if call.index in seen:
            continue
        seen.add(call.index)
        bad = [
            (key, t)
            for key, t in call.inputs.items()
            if not call.summaries[key].finite and not _meant(case, key)
        ]
        if not bad:
            origins.append(call)
        for key, tensor in bad:
            maker = watch.made(key)
            if maker is not None:
                waiting.append(maker)
            elif id(tensor) not in known and id(tensor._base) not in known:
                origins.append(call)  # a constant or a buffer brought it in
    return min(origins, key=lambda call: call.index, default=None)


def _meant(case: Case, key: Key) -> bool:
    """Whether infinities were put there on purpose: a mask's -inf, and what it was added to."""
    call = case.watch.made(key)
    if call is None:
        tensor = next(t for c in case.watch.users(key) for k, t in c.inputs.items() if k == key)
        return not isinstance(tensor, torch.nn.Parameter) and not tensor.isnan().any()
    if call.summaries[key].nan:
        return False
    leaves = tree_leaves(call.args)
    if any(isinstance(leaf, float) and math.isinf(leaf) for leaf in leaves):
        return True
    bad = [k for k in call.inputs if not call.summaries[k].finite]
    return bool(bad) and all(_meant(case, k) for k in bad)


def _forward(case: Case, call: Call) -> Finding:
    made = next((s for k in call.outputs if not (s := call.summaries[k]).finite), call.output)
    assert made is not None
    inputs = case.inputs(call)
    clean = all(summary.finite for summary in inputs)
    reason = why(call, case)
    comes = "comes" if made.nan + made.inf == 1 else "come"
    return Finding(
        "not finite forward",
        call.module,
        f"The first operation that makes them: {_part(made)} {comes} out"
        + (", all that goes in is finite." if clean else ", although no NaN goes in.")
        + (f" {reason}" if reason else ""),
        operation=call.name,
        formula=call.spec.formula if call.spec else "",
        tensors=(*inputs, made.called("output")),
        numbers={"nan": made.nan, "inf": made.inf, "size": made.size, "call": call.index},
        severity="error",
    )


def _leak(case: Case) -> Passage | None:
    """The first node that received finite gradients and passed on others."""
    for passage in case.watch.passages:
        arriving = [s for s in passage.arriving if s is not None]
        leaving = [s for s in passage.leaving if s is not None]
        if all(s.finite for s in arriving) and not all(s.finite for s in leaving):
            return passage
    return None


def _backward(case: Case, passage: Passage) -> Finding:
    call = passage.call
    arriving = next(s for s in passage.arriving if s is not None)
    left = next(s for s in passage.leaving if s is not None and not s.finite)
    reason = why(call, case, backward=True) if call else ""
    return Finding(
        "not finite backward",
        call.module if call else "",
        "The forward pass is finite, and so is the gradient that arrives here, in "
        f"[{number(arriving.low)}, {number(arriving.high)}]; of the gradient that leaves, "
        f"{_part(left)}." + (f" {reason}" if reason else ""),
        operation=call.name if call else passage.node.name(),
        formula=call.spec.gradient if call and call.spec else "",
        tensors=(
            *(case.inputs(call) if call else ()),
            arriving.called("gradient arriving"),
            left.called("gradient leaving"),
        ),
        numbers={"nan": left.nan, "inf": left.inf, "size": left.size},
        severity="error",
    )


def _overflow(case: Case) -> Finding:
    """Every share of a gradient is finite; their sum is not."""
    name, gradient = next(
        (n, g) for n, g in case.gradients.items() if g is not None and not summarize(g).finite
    )
    summary = summarize(gradient, f"gradient of {name}")
    return Finding(
        "not finite backward",
        name,
        f"Every operation passes on finite numbers; their sum has {_part(summary)}: "
        f"it leaves the range of {summary.dtype}.",
        tensors=(summary,),
        numbers={"nan": summary.nan, "inf": summary.inf, "size": summary.size},
        severity="error",
    )


def _part(summary: Summary) -> str:
    """``2 NaN of 8 numbers``."""
    parts = [f"{summary.nan} NaN"] * bool(summary.nan) + [f"{summary.inf} infinite"] * bool(
        summary.inf
    )
    return f"{' and '.join(parts)} of {counted(summary.size, 'number')}"
