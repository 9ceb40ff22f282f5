"""Whose memory it is: results that alias other tensors, and tensors that are never let go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.judge import try_manual
from manual_bp.conformance.probe import Case, probe
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward, Raised
from manual_bp.conformance.untouched import same
from manual_bp.wording import counted

__all__ = ["aliases", "kept_alive"]


@probe("aliases")
def aliases(bench: Bench) -> Iterator[Case]:
    """Gradients and outputs that are someone else's memory.

    Clipping works on gradients in place: when a gradient is the weight itself, or another
    gradient, or a buffer that is used again, that is changed too.
    """
    hint = "Return a new tensor: a clone of what is saved, not the saved tensor itself."
    yield Case("gradients overwritten", bench.call, _gradients_overwritten, hint)
    hint = "Two gradients are one buffer: give each input a tensor of its own."
    yield Case("accumulated gradients overwritten", bench.call, _accumulated_overwritten, hint)
    hint = "The output shares memory with an input: return a copy, or mark_dirty the input."
    yield Case("outputs overwritten", bench.call, _outputs_overwritten, hint)


def _gradients_overwritten(bench: Bench, call: Call) -> list[Problem]:
    native = bench.refer(call)
    cotangents = bench.cotangents(native.outputs)
    if all(g is None for g in cotangents):
        raise LeftOut("no output requires a gradient")
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    native_hit = _hit_by_gradients(native, cotangents)
    return [
        Problem("alias", subject, text)
        for subject, text in _hit_by_gradients(manual, cotangents)
        if (subject, text) not in native_hit
    ]


def _hit_by_gradients(forward: Forward, cotangents: list[Tensor | None]) -> list[tuple[str, str]]:
    """What changes when the gradients that a backward returned are overwritten."""
    given = [None if g is None else g.clone() for g in cotangents]
    try:
        grads = forward.backward(given, retain_graph=True)
    except Raised:
        return []
    hits: list[tuple[str, str]] = []
    call = forward.call
    for i, grad in grads.items():
        if grad is None or not grad.numel():
            continue
        inputs = {j: forward.made.leaves[j].detach().clone() for j in call.tensors}
        outputs = [y.detach().clone() for y in forward.outputs]
        with torch.no_grad():
            try:
                grad.fill_(7.25)
            except RuntimeError:
                continue
        subject = f"gradient of {call.names[i]}"
        for j, before in inputs.items():
            if not same(forward.made.leaves[j], before):
                hits.append((subject, f"shares memory with the input {call.names[j]}"))
        for y, before in zip(forward.outputs, outputs, strict=True):
            if not same(y, before):
                hits.append((subject, "shares memory with an output"))
    return hits


def _accumulated_overwritten(bench: Bench, call: Call) -> list[Problem]:
    native = bench.refer(call)
    cotangents = bench.cotangents(native.outputs)
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    native_hit = _hit_by_accumulated(native, cotangents)
    return [
        Problem("alias", subject, text)
        for subject, text in _hit_by_accumulated(manual, cotangents)
        if (subject, text) not in native_hit
    ]


def _hit_by_accumulated(forward: Forward, cotangents: list[Tensor | None]) -> list[tuple[str, str]]:
    """What changes when one ``.grad`` is overwritten, as zero_() and clipping do."""
    pairs = [
        (y, g.clone())
        for y, g in zip(forward.outputs, cotangents, strict=True)
        if g is not None and y.requires_grad
    ]
    if not pairs:
        raise LeftOut("no output requires a gradient")
    try:
        torch.autograd.backward([y for y, _ in pairs], [g for _, g in pairs])
    except Exception:
        return []  # said by other probes
    names = {i: f"gradient of {forward.call.names[i]}" for i in sorted(forward.call.needs)}
    grads = {i: forward.made.leaves[i].grad for i in names}
    tensors = {
        names[i]: grad
        for i, grad in grads.items()
        if grad is not None and grad.layout is torch.strided
    }
    tensors |= {f"grad_output {k}": g for k, (_, g) in enumerate(pairs)}
    hits = []
    for i, grad in grads.items():
        if grad is None or not grad.numel() or grad.layout is not torch.strided:
            continue
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        grad.fill_(7.25 + i)
        hits += [
            (names[i], f"shares memory with {name}")
            for name, tensor in tensors.items()
            if tensor is not grad and not same(tensor, before[name])
        ]
    return hits


def _outputs_overwritten(bench: Bench, call: Call) -> list[Problem]:
    native = bench.refer(call)
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    native_hit = _hit_by_outputs(native)
    return [
        Problem("alias", subject, text)
        for subject, text in _hit_by_outputs(manual)
        if (subject, text) not in native_hit
    ]


def _hit_by_outputs(forward: Forward) -> list[tuple[str, str]]:
    """What changes when the outputs are overwritten, as activations in place are."""
    hits: list[tuple[str, str]] = []
    call = forward.call
    inputs = {j: forward.made.leaves[j].detach().clone() for j in call.tensors}
    for k, y in enumerate(forward.outputs):
        if not y.numel() or not is_differentiable(y):
            continue
        others = [other.detach().clone() for other in forward.outputs]
        with torch.no_grad():
            try:
                y.fill_(7.25)
            except RuntimeError:
                continue
        subject = "output" if len(forward.outputs) == 1 else f"output {k}"
        for j, before in inputs.items():
            if not same(forward.made.leaves[j], before):
                hits.append((subject, f"shares memory with the input {call.names[j]}"))
        for m, before in enumerate(others):
            if m != k and not same(forward.outputs[m], before):
                hits.append((subject, f"shares memory with output {m}"))
    return hits


@probe("kept alive")
def kept_alive(bench: Bench) -> Iterator[Case]:
    """Tensors that outlive the call: reference cycles, lists that grow, state on the class.

    An output kept on ctx holds ctx, which holds the output, until the garbage collector comes
    by: memory that grows from step to step. pytorch#25340, pytorch#5569.
    """
    yield Case("after the backward", bench.call, _leftovers, shrinks=False)
    yield Case("without a backward", bench.call, _leftovers_forward, shrinks=False)


def _leftovers(bench: Bench, call: Call) -> list[Problem]:
    return _kept(bench, call, backward=True)


def _leftovers_forward(bench: Bench, call: Call) -> list[Problem]:
    return _kept(bench, call, backward=False)


def _kept(bench: Bench, call: Call, backward: bool) -> list[Problem]:
    if gc.get_freeze_count():
        raise LeftOut("the garbage collector is frozen by its owner")
    if any(_alive_after(bench, bench.reference, call, backward)):
        raise LeftOut("the reference itself keeps tensors")
    cycles, kept = _alive_after(bench, bench.manual, call, backward)
    problems = []
    if cycles:
        text = f"{_staying(cycles)} until the garbage collector runs"
        hint = "A reference cycle: an output kept as ctx.y. Save it with ctx.save_for_backward."
        problems.append(Problem("kept", "memory", text, hint=hint))
    if kept:
        text = f"{_staying(kept)} for ever"
        hint = "Kept on the class, in a module or in a list or cache that nobody empties."
        problems.append(Problem("kept", "memory", text, hint=hint))
    return problems


def _staying(count: int) -> str:
    return f"{counted(count, 'tensor')} of 3 calls {'stays' if count == 1 else 'stay'}"


def _alive_after(bench: Bench, function: object, call: Call, backward: bool) -> tuple[int, int]:
    """How many tensors outlive three calls: until a collection, and beyond it."""
    _use(bench, function, call, backward)  # whatever is cached once is cached now
    enabled = gc.isenabled()
    gc.disable()
    # What is old already is not looked at: only tensors of these calls are counted.
    gc.freeze()
    try:
        for _ in range(3):
            _use(bench, function, call, backward)
        found = _tensors()
        if not found:
            return 0, 0
        del found
        gc.collect()
        before = len(_tensors())
        return max(0, _count_cycles(bench, function, call, backward)), before
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def _count_cycles(bench: Bench, function: object, call: Call, backward: bool) -> int:
    start = {id(ref()) for ref in _tensors()}
    for _ in range(3):
        _use(bench, function, call, backward)
    alive = _tensors()
    new = [ref for ref in alive if id(ref()) not in start]
    gc.collect()
    return sum(ref() is None for ref in new)


def _tensors() -> list[weakref.ref[Tensor]]:
    return [weakref.ref(o) for o in gc.get_objects() if type(o) is Tensor]


def _use(bench: Bench, function: object, call: Call, backward: bool) -> None:
    assert callable(function)
    try:
        forward = Forward(function, call, bench.seed)
        if backward:
            forward.backward(bench.cotangents(forward.outputs))
    except Raised as raised:
        raise LeftOut(f"it raises ({raised.message})") from None
