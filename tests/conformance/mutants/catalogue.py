"""How a mutant (a wrong backward) or its counterpart (a right one) is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from manual_bp.spec import Draw

Inputs = Callable[[Draw], tuple[Any, ...]]


@dataclass(frozen=True)
class Entry:
    """A function with a hand-written backward, and what it claims to equal.

    ``source`` is the report it models, or else the reason why one might write it.
    """

    name: str
    manual: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Inputs
    source: str

    @property
    def reported(self) -> bool:
        return "#" in self.source

    def __str__(self) -> str:
        return self.name


WRONG: list[Entry] = []
RIGHT: list[Entry] = []


def wrong(name: str, reference: Callable[..., Any], inputs: Inputs, source: str) -> Any:
    return _add(WRONG, name, reference, inputs, source)


def right(name: str, reference: Callable[..., Any], inputs: Inputs, source: str) -> Any:
    return _add(RIGHT, name, reference, inputs, source)


def _add(
    entries: list[Entry],
    name: str,
    reference: Callable[..., Any],
    inputs: Inputs,
    source: str,
) -> Any:
    def wrap(manual: Any) -> Any:
        is_function = isinstance(manual, type) and issubclass(manual, torch.autograd.Function)
        call = manual.apply if is_function else manual
        assert name not in {entry.name for entry in entries}, name
        entries.append(Entry(name, call, reference, inputs, source))
        return manual

    return wrap


def matrix(d: Draw) -> tuple[Any, ...]:
    return (d(4, 6),)


def two(d: Draw) -> tuple[Any, ...]:
    return d(4, 6), d(4, 6)


def linear(d: Draw) -> tuple[Any, ...]:
    return d(4, 6), d(3, 6), d(3)


def classes(d: Draw) -> tuple[Any, ...]:
    return d(5, 7), d.integers(7, 5)
