"""What every worked example is written with: the place, the numbers, the sums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from manual_bp.explain.operation import Operation, Symbol
from manual_bp.explain.views.numbers import number

__all__ = ["TERMS", "Example", "Place", "Worked", "name_at", "shown", "strongest"]

TERMS = 5
"""The largest number of terms of a sum that are written out."""

Place = tuple[int, ...]


@dataclass
class Worked:
    """The lines of an example; either list may be empty."""

    forward: list[str] = field(default_factory=list)
    backward: list[str] = field(default_factory=list)
    arriving: tuple[str, Place] | None = None  # the gradient that the backward lines start from

    @property
    def places(self) -> dict[str, list[int]]:
        """Which element of what the lines compute: ``{"y": [0, 1], "dW": [1, 0]}``."""
        found = (re.match(r"(\w+)\[([\d, ]+)\] =", line) for line in self.forward + self.backward)
        places = {m[1]: [int(i) for i in m[2].split(",")] for m in found if m is not None}
        return places | ({self.arriving[0]: [*self.arriving[1]]} if self.arriving else {})


class Example:
    """An operation and one place in its output."""

    def __init__(self, operation: Operation, precision: int) -> None:
        self.operation, self.precision = operation, precision
        self.y = operation.outputs[0]
        strongest = self.y.gradient if self.y.gradient is not None else self.y.value
        for s in operation.inputs:  # rather where blame passes than where it is stopped
            if s.slope is not None and s.gradient is not None and s.gradient.any():
                strongest = s.gradient if s.shape == self.y.shape else strongest
        if strongest.numel() == 0 or strongest.is_complex():
            raise IndexError
        flat = int(torch.nan_to_num(strongest).abs().flatten().argmax())
        self.at = place_of(flat, self.y.shape)

    def given(self, argument: str) -> Symbol | None:
        """The input of that argument."""
        return next((s for s in self.operation.inputs if s.argument == argument), None)

    def need(self, argument: str) -> Symbol:
        """The same, which has to be there."""
        found = self.given(argument)
        if found is None:
            raise KeyError(argument)
        return found

    def show(self, value: Tensor | float) -> str:
        """A number; a negative one in brackets."""
        return shown(value, self.precision)

    def bare(self, value: Tensor | float) -> str:
        """A number that stands alone."""
        return number(float(value), self.precision)

    def products(self, left: Tensor, right: Tensor) -> str:
        """The sum of the products of two vectors; of a long one its largest terms."""
        largest = _largest(left * right)
        return self.joined(
            [f"{self.show(left[i])} * {self.show(right[i])}" for i in largest], len(left)
        )

    def sums(self, values: Tensor) -> str:
        """The sum of a vector's numbers; of a long one its largest, in their order."""
        return self.joined([self.show(values[i]) for i in _largest(values)], len(values))

    def joined(self, terms: Sequence[str], count: int) -> str:
        """Terms with their signs; what is left out is counted."""
        text = " + ".join(terms[:TERMS])
        return text if count <= TERMS else f"{text} + ... ({count} terms)"


def _largest(values: Tensor) -> list[int]:
    """Where the few largest magnitudes of a vector stand, from the front."""
    largest = torch.nan_to_num(values).abs().topk(min(TERMS, len(values))).indices
    return sorted(largest.tolist())


def place_of(flat: int, shape: Sequence[int]) -> Place:
    place = []
    for size in reversed(shape):
        place.append(flat % size)
        flat //= size
    return tuple(reversed(place))


def name_at(letter: str, place: Iterable[int]) -> str:
    """``y[0, 1]``; of a single number ``y``."""
    inside = ", ".join(map(str, place))
    return f"{letter}[{inside}]" if inside else letter


def shown(value: Tensor | float, precision: int) -> str:
    """A number; a negative one in brackets."""
    text = number(float(value), precision)
    return f"({text})" if text.startswith("-") else text


def strongest(x: Tensor) -> Place:
    """Where the number of the largest magnitude stands."""
    return place_of(int(torch.nan_to_num(x).abs().flatten().argmax()), x.shape)
