"""Errors in low precision, and how large they have to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.run import Forward, Raised

__all__ = ["Rounding", "error", "norm", "wide"]

# Directions in which the inputs are moved; the one that changes most counts.
_NUDGES = 3


class Rounding:
    """What becomes of the result, exactly computed, when each input moves by an ulp.

    A result that is exact for inputs changed by about their own rounding cannot be called wrong:
    at a large mean every variance loses digits, and so does a softmax that is almost one-hot.

    Args:
        bench: Of the check.
        call: In low precision.
        exact: The reference's call in float64.
        grads: Its gradients.
        cotangents: That they are for, in float64.
    """

    def __init__(
        self,
        bench: Bench,
        call: Call,
        exact: Forward,
        grads: dict[int, Tensor | None],
        cotangents: Sequence[Tensor | None],
    ) -> None:
        self._bench, self._call = bench, call
        self._exact, self._grads, self._cotangents = exact, grads, cotangents

    @cached_property
    def _moved(self) -> list[tuple[list[Tensor], dict[int, Tensor | None]]]:
        results = []
        for _ in range(_NUDGES):
            leaves = {}
            for i in self._call.floating:
                x = self._call.leaves[i].to(self._exact.call.leaves[i].dtype)
                step = torch.finfo(self._call.leaves[i].dtype).eps
                leaves[i] = x * (1 + step * self._bench.draw(x).real.sign())
            try:
                forward = self._bench.refer(self._exact.call.with_leaves(leaves))
                results.append((forward.outputs, forward.backward(self._cotangents)))
            except (LeftOut, Raised):
                continue
        return results

    def of_output(self, index: int) -> tuple[float, float]:
        """Largest error and norm of the error that rounding the inputs makes."""
        true = self._exact.outputs[index]
        return _largest(error(outputs[index], true) for outputs, _ in self._moved)

    def of_gradient(self, leaf: int) -> tuple[float, float]:
        """The same of a gradient."""
        true = self._grads.get(leaf)
        return _largest(
            error(moved, true)
            for _, grads in self._moved
            if true is not None and (moved := grads.get(leaf)) is not None
        )


def _largest(errors: Iterable[tuple[float, float]]) -> tuple[float, float]:
    return max(errors, key=lambda pair: pair[1], default=(0.0, 0.0))


def norm(x: Tensor) -> float:
    """The Euclidean norm, in float64."""
    return float(torch.linalg.vector_norm(x.detach().to(wide(x))))


def wide(x: Tensor) -> torch.dtype:
    """The dtype of 64 bits a number that holds a tensor."""
    return torch.complex128 if x.is_complex() else torch.float64


def error(low: Tensor, true: Tensor) -> tuple[float, float]:
    """Largest error and norm of the error; infinite where a finite number is not one."""
    if low.shape != true.shape:
        return float("inf"), float("inf")
    distance = (low.detach().to(wide(true)) - true.detach()).abs().nan_to_num(float("inf"))
    if not distance.numel():
        return 0.0, 0.0
    return float(distance.max()), float(torch.linalg.vector_norm(distance))
