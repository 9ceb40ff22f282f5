"""A gradient against the numerical derivative of its own forward pass.

Used where function and reference draw random numbers differently, so that there is nothing to
compare a single result with: under a fixed seed each is a function like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward, Raised

__all__ = ["against_itself"]

STEP = 1e-6
TOLERANCE = 1e-5
DIRECTIONS = 3


def against_itself(
    bench: Bench, call: Call, grads: dict[int, Tensor | None], cotangents: Sequence[Tensor | None]
) -> list[Problem]:
    """Compare gradients with central differences of the function's own outputs.

    Args:
        bench: Of the check.
        call: The arguments.
        grads: What the backward returned.
        cotangents: What it was given.
    """
    problems = []
    for i, grad in grads.items():
        x = call.leaves[i]
        if x.dtype not in (torch.float64, torch.complex128):
            raise LeftOut("numerical derivatives need float64")
        for _ in range(DIRECTIONS):
            direction = bench.draw(x)
            step = STEP * max(1.0, float(x.abs().max()) if x.numel() else 1.0)
            up = _dot(bench, call.with_leaf(i, x + step * direction), cotangents)
            down = _dot(bench, call.with_leaf(i, x - step * direction), cotangents)
            expected = (up - down) / (2 * step)
            got = 0.0 if grad is None else _inner(grad, direction)
            size = sum(float(g.abs().sum()) for g in cotangents if g is not None)
            if not abs(got - expected) <= TOLERANCE * max(abs(expected), 1e-3 * size):
                text = (
                    "differs from the numerical derivative of the function itself under the same "
                    f"seed: {got:.8g} against {expected:.8g} along a random direction"
                )
                hint = "The backward does not use the random numbers that its forward drew."
                problems.append(Problem("random", f"gradient of {call.names[i]}", text, hint=hint))
                break
    return problems


def _dot(bench: Bench, call: Call, cotangents: Sequence[Tensor | None]) -> float:
    try:
        with torch.no_grad():
            outputs = Forward(bench.manual, call.with_needs(()), bench.seed).outputs
    except Raised as raised:
        raise LeftOut(f"the function refuses it ({raised.message})") from None
    pairs = zip(outputs, cotangents, strict=True)
    return sum(_inner(y, g) for y, g in pairs if g is not None)


def _inner(a: Tensor, b: Tensor) -> float:
    return float((a.detach() * b.conj()).real.sum())
