"""Which parameters get no gradient, and where its way ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding

__all__ = ["no_gradient", "shortened"]

# They hand out the numbers without their history.
_DETACHING = {"detach", "data", "item", "tolist", "numpy", "array", "float", "int"}

_TEXTS = {
    "detached": "{name}() hands on the numbers without their history",
    "not differentiable": "{name} has no derivative",
    "under no_grad": "{name} ran under torch.no_grad()",
    "not in the loss": "what they lead to ends in {title}, and the loss does not depend on it",
    "no gradient returned": "the backward of {name} returns None",
}


def no_gradient(case: Case) -> Iterator[Finding]:
    """The parameters whose gradient is None: one finding a reason and place."""
    groups: dict[tuple[str, str, int], list[str]] = {}
    for name, parameter in case.parameters.items():
        if case.gradients.get(name) is not None:
            continue
        kind, call = _reason(case, name) if parameter.requires_grad else ("frozen", None)
        # Several parameters behind one cut are one finding; frozen or unused are modules.
        place = "" if call else name.rpartition(".")[0]
        groups.setdefault((kind, place, call.index if call else -1), []).append(name)
    for (kind, place, index), names in groups.items():
        call = case.watch.calls[index] if index >= 0 else None
        yield _cut(case, kind, call, names) if call else _by_module(case, kind, place, names)


def _reason(case: Case, name: str) -> tuple[str, Call | None]:
    """Kind of finding, and the operation where the gradient's way ends."""
    watch = case.watch
    uses = watch.uses(case.parameters[name])
    if not uses:
        return "unused", None
    after = sorted(set().union(*(watch.after(use) for use in uses)))
    calls = [watch.calls[index] for index in after]
    # Asked now: what a Function's forward makes gets its history only when the Function returns.
    cuts = [c for c in calls if c.wanted and not any(t.requires_grad for t in c.outputs.values())]
    last = watch.maker(case.loss)
    needed = _behind(case, last)
    for call in cuts:
        if call.index in needed and call.outputs:
            return _kind(call), call
    if last is not None and last.index in after and case.loss.requires_grad:
        return "no gradient returned", _silent(calls) or last
    # What is no tensor any more cannot be followed; the loss may have been made from it.
    numbers = [call for call in cuts if not call.outputs]
    if numbers and (case.loss.grad_fn is None or len(cuts) == len(calls)):
        return _kind(numbers[-1]), numbers[-1]
    return "not in the loss", calls[-1]


def _kind(call: Call) -> str:
    if not call.grad_enabled:
        return "under no_grad"
    return "detached" if call.name in _DETACHING else "not differentiable"


def _behind(case: Case, last: Call | None) -> set[int]:
    """Indices of the calls that the loss depends on."""
    found, waiting = set(), [last] if last else []
    while waiting:
        call = waiting.pop()
        if call.index not in found:
            found.add(call.index)
            waiting.extend(case.watch.before(call))
    return found


def _silent(calls: Sequence[Call]) -> Call | None:
    """The call that received a gradient and passed on none."""
    for call in reversed(calls):
        for passage in call.passages:
            if any(passage.arriving) and not any(passage.leaving):
                return call
    return None


def _cut(case: Case, kind: str, call: Call, names: list[str]) -> Finding:
    what = _TEXTS[kind].format(name=call.name, title=call.title)
    return Finding(
        kind,
        call.module,
        f"{shortened(names)} {'gets' if len(names) == 1 else 'get'} no gradient: {what}.",
        operation=call.name,
        tensors=case.inputs(call),
        numbers={"parameters": names, "call": call.index},
        severity="note" if kind == "not in the loss" else "error",
    )


def _by_module(case: Case, kind: str, place: str, names: list[str]) -> Finding:
    some = f"{shortened(names)} {'has' if len(names) == 1 else 'have'}"
    numbers = {"parameters": names}
    where = names[0] if len(names) == 1 else place
    if kind == "frozen":
        count = sum(case.parameters[name].numel() for name in names)
        held = f"{count} numbers stay as they are" if count != 1 else "1 number stays as it is"
        text = f"{some} requires_grad=False: {held}."
        return Finding(kind, where, text, numbers=numbers, severity="note")
    if place in case.watch.called or not place:
        text = f"{some} no gradient: no operation of the forward pass takes them."
    else:
        text = f"{some} no gradient: the module {place} is never called."
    return Finding(kind, where, text, numbers=numbers)


def shortened(names: Sequence[str], most: int = 4) -> str:
    """``a, b, c and 5 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
