"""What counts as the same result: outputs and gradients of both sides, on given terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench
from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import Mismatch, differ, largest
from manual_bp.conformance.layouts import lay_out
from manual_bp.conformance.noise import Noise
from manual_bp.conformance.report import Problem
from manual_bp.conformance.run import Forward
from manual_bp.wording import counted

__all__ = ["CLOSE", "Terms", "compare_gradients", "compare_outputs", "laid_out"]

# For inputs of extreme size, where rounding is amplified and wrong formulas fail by far.
CLOSE = 1e-7


@dataclass(frozen=True)
class Terms:
    """On what terms a call is judged.

    Attributes:
        rtol: Relative tolerance; None takes the bench's own.
        cotangent: Layout of the cotangents.
        change: What is done to the random cotangents before they are laid out.
        only: Index of the one output that is used; None for all.
        may_refuse: Whether the function may raise in its forward, ``never``, ``in words`` (by a
            ``raise`` or ``assert`` of its own) or ``always``; ``anywhere`` allows it in the
            backward too. Where the example did not promise that the function takes such a call,
            an error is not a wrong gradient.
        finite: Whether the case is left out where the reference's output is not finite.
        output_may_differ: Whether the case is left out where the outputs differ already.
        strict_none: Whether None is wrong where the reference has a gradient of zeros.
        conditioned: Whether the case is left out where the last digits of the inputs decide the
            result: a matrix that was made larger may have become singular.
        extreme: Whether the inputs are so large that these digits may be all that an output
            consists of.
    """

    rtol: float | None = None
    cotangent: str = "contiguous"
    change: Callable[[Tensor], Tensor] | None = None
    only: int | None = None
    may_refuse: str = "never"
    finite: bool = False
    output_may_differ: bool = False
    strict_none: bool = False
    conditioned: bool = False
    extreme: bool = False


def laid_out(g: Tensor | None, terms: Terms) -> Tensor | None:
    """A cotangent in the layout of the terms."""
    return None if g is None else lay_out(g, terms.cotangent)


def compare_outputs(bench: Bench, manual: Forward, native: Forward, terms: Terms) -> list[Problem]:
    """What differs between the results of the two forward passes."""
    if len(manual.outputs) != len(native.outputs):
        text = f"is {counted(len(manual.outputs), 'tensor')}, autograd's {len(native.outputs)}"
        return [Problem("output", "the result", text)]
    noise = Noise(bench, native.call)
    blur = 4 * bench.eps * _input_size(native.call) if terms.extreme else 0.0
    problems = []
    for i, (got, expected) in enumerate(zip(manual.outputs, native.outputs, strict=True)):
        subject = "output" if len(native.outputs) == 1 else f"output {i}"
        text = _form(got, expected, "autograd's")
        if text:
            problems.append(Problem("output", subject, text))
        elif mismatch := _differ(
            bench, got, expected, terms, bench.output_scale(i), partial(noise.of_output, i), blur
        ):
            problems.append(Problem("output", subject, "differs", mismatch))
        elif expected.requires_grad and not got.requires_grad:
            text = "does not require a gradient, autograd's does"
            hint = (
                "It is cut off from its inputs: marked non-differentiable, computed from "
                "detached tensors, or under no_grad."
            )
            problems.append(Problem("cut off", subject, text, hint=hint))
    return problems


def _input_size(call: Call) -> float:
    return max((largest(call.leaves[i]) for i in call.floating), default=0.0)


def _form(got: Tensor, expected: Tensor, whose: str) -> str:
    """What differs in shape, dtype or device; empty where nothing does."""
    if got.shape != expected.shape:
        return f"has shape {tuple(got.shape)}, {whose} {tuple(expected.shape)}"
    if got.dtype != expected.dtype:
        return f"has dtype {got.dtype}, {whose} {expected.dtype}"
    if got.device != expected.device:
        return f"is on {got.device}, {whose} on {expected.device}"
    return ""


def _differ(
    bench: Bench,
    got: Tensor,
    expected: Tensor,
    terms: Terms,
    scale: float,
    noise: Callable[[], float],
    blur: float = 0.0,
) -> Mismatch | None:
    """A difference that rounding does not explain."""
    rtol = bench.rtol if terms.rtol is None else terms.rtol
    mismatch = differ(got, expected, rtol=rtol, scale=scale, atol=blur)
    if mismatch is None or expected.dtype.itemsize < 8:
        return mismatch
    if mismatch.difference > 1e-4 * max(scale, largest(expected)):
        return mismatch
    return differ(got, expected, rtol=rtol, scale=scale, atol=max(blur, noise()))


def compare_gradients(
    bench: Bench,
    call: Call,
    got: dict[int, Tensor | None],
    expected: dict[int, Tensor | None],
    terms: Terms,
    cotangents: Sequence[Tensor | None],
    leaves: Sequence[Any] = (),
) -> list[Problem]:
    """What differs between two sets of gradients."""
    noise = Noise(bench, call, [laid_out(g, terms) for g in cotangents])
    size = max((largest(g) for g in cotangents if g is not None), default=1.0)
    problems = []
    for i, reference in expected.items():
        manual = got.get(i)
        subject = f"gradient of {call.names[i]}"
        scale = bench.scales.get(i, 0.0) * max(size, 1e-300)
        if reference is None:
            if manual is not None and largest(manual) > 0:
                mismatch = differ(manual, torch.zeros_like(manual), rtol=0.0, scale=scale)
                if mismatch:
                    text = "is not zero, but the output does not depend on it"
                    problems.append(Problem("gradient", subject, text, mismatch))
            continue
        if manual is None:
            if largest(reference) > 64 * bench.eps * scale:
                problems.append(Problem("missing", subject, "is None, autograd's is not zero"))
            elif terms.strict_none and reference.numel():
                text = "is None, autograd's is a tensor of zeros"
                hint = "Optimizers skip a parameter whose gradient is None, with its weight decay."
                problems.append(Problem("missing", subject, text, hint=hint))
            continue
        if any(manual is leaf for leaf in leaves):
            text = "is an input itself, not a copy of it"
            hint = "Whoever scales or clips the gradient in place changes the input: clone it."
            problems.append(Problem("alias", subject, text, hint=hint))
        elif manual.requires_grad and not reference.requires_grad:
            text = "is still attached to a graph, without create_graph"
            hint = "It keeps that graph alive: detach it, or compute it without enable_grad."
            problems.append(Problem("attached", subject, text, hint=hint))
        if text := _form(manual, reference, "the input's is"):
            problems.append(Problem("shape", subject, text))
        elif mismatch := _differ(
            bench, manual, reference, terms, scale, partial(noise.of_gradient, i)
        ):
            problems.append(Problem("gradient", subject, "differs", mismatch))
    return problems
