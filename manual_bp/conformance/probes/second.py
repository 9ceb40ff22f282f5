"""Gradients of gradients."""

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
from manual_bp.conformance.results import Terms, compare_gradients
from manual_bp.conformance.run import Forward, Raised

__all__ = ["second_order"]


@probe("second order")
def second_order(bench: Bench) -> Iterator[Case]:
    """Gradients of the gradients, by the inputs and by the cotangent.

    Intermediates kept on ctx count as constants and leave terms out, silently: pytorch#58509,
    pytorch#76185, pytorch#104040. A backward marked once_differentiable says so and is left out.
    """
    hint = (
        "The backward is not a differentiable function of saved inputs: it uses something that "
        "was detached, or an intermediate kept on ctx. Recompute it from saved inputs, or mark "
        "the backward @once_differentiable."
    )
    yield Case("all inputs", bench.call, _judge_second, hint)
    if len(bench.call.needs) > 1:
        for i in sorted(bench.call.needs):
            label = f"only {bench.name(i)} requires a gradient"
            yield Case(label, bench.call.with_needs([i]), _judge_second, hint)


class _Second:
    """First gradients with a graph, and the gradients of a random projection of them."""

    def __init__(self, forward: Forward, cotangents: list[Tensor | None]) -> None:
        self.forward = forward
        self.cotangents = [
            None if g is None else g.detach().clone().requires_grad_() for g in cotangents
        ]
        self.first = forward.backward(self.cotangents, create_graph=True)

    def refused(self) -> bool:
        """Whether a node that only raises stands in the graph of the gradients.

        once_differentiable puts it there. It is not connected to the inputs, so that asking for
        their gradients alone passes it by; ``backward()`` does not.
        """
        seen = set()
        nodes = [grad.grad_fn for grad in self.first.values() if grad is not None]
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            if node.name().rsplit("::", 1)[-1] == "Error":
                return True
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
        return False

    def differentiate(self, directions: dict[int, Tensor]) -> list[Tensor | None] | None:
        """Gradients by the inputs, then by the cotangents; None where nothing depends on them."""
        pairs = [
            (grad, directions[i])
            for i, grad in self.first.items()
            if grad is not None and i in directions and grad.requires_grad
        ]
        if not pairs:
            return None
        cotangents = [g for g in self.cotangents if g is not None]
        try:
            grads = torch.autograd.grad(
                [grad for grad, _ in pairs],
                [*self.forward.needed, *cotangents],
                [direction for _, direction in pairs],
                allow_unused=True,
            )
        except Exception as error:
            raise Raised("second backward", error) from None
        return list(grads)


def _honest(raised: Raised) -> bool:
    """Whether an error says that there is no second order, rather than being an accident."""
    message = str(raised.error)
    return (
        "once_differentiable" in message
        or "not implemented" in message
        or isinstance(raised.error, NotImplementedError)
        or raised.deliberate
    )


def _judge_second(bench: Bench, call: Call) -> list[Problem]:
    if bench.own_numbers:
        raise LeftOut("both sides draw random numbers of their own")
    native = bench.refer(call)
    cotangents = bench.cotangents(native.outputs)
    if all(g is None for g in cotangents):
        raise LeftOut("no output requires a gradient")
    try:
        expected = _Second(native, cotangents)
        directions = {i: bench.draw(grad) for i, grad in expected.first.items() if grad is not None}
        second = expected.differentiate(directions)
    except Raised as raised:
        raise LeftOut(f"the reference has no second order ({raised.message})") from None
    manual = try_manual(bench, call)
    if isinstance(manual, Problem):
        return [manual]
    try:
        got = _Second(manual, cotangents)
        problems = compare_gradients(
            bench, call, got.first, _detached(expected.first), Terms(), cotangents
        )
        problems = [p for p in problems if p.kind != "attached"]
        if problems or second is None:
            return problems
        if got.refused():
            raise LeftOut("not supported, and says so (once_differentiable)")
        result = got.differentiate(directions)
    except Raised as raised:
        if _honest(raised):
            raise LeftOut(f"not supported, and says so ({raised.message})") from None
        return [raised_problem(raised)]
    names = [call.names[i] for i in sorted(call.needs)]
    given = [f"grad_output {i}" for i, g in enumerate(cotangents) if is_differentiable(g)]
    names += ["grad_output"] if len(given) == 1 else given
    return _compare(bench, names, result, second)


def _detached(grads: dict[int, Tensor | None]) -> dict[int, Tensor | None]:
    return {i: None if g is None else g.detach() for i, g in grads.items()}


def _compare(
    bench: Bench,
    names: list[str],
    result: list[Tensor | None] | None,
    second: list[Tensor | None],
) -> list[Problem]:
    problems = []
    top = max((largest(s) for s in second if s is not None), default=0.0)
    for i, (name, expected) in enumerate(zip(names, second, strict=True)):
        got = None if result is None else result[i]
        subject = f"second-order gradient by {name}"
        if expected is None and got is None:
            continue
        if expected is None:
            assert got is not None
            expected = torch.zeros_like(got)
        if got is None:
            if largest(expected) > bench.rtol * top:
                text = "is missing: the backward does not depend on it"
                problems.append(Problem("missing", subject, text))
            continue
        if mismatch := differ(got, expected, rtol=bench.rtol, scale=top):
            problems.append(Problem("second", subject, "differs", mismatch))
    return problems
