"""Numbers as a lesson tells them: three digits, and a power of ten only where one helps."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

__all__ = ["bracketed", "listed", "three"]

ROUNDING = 1e-15
"""What is left of a sum of numbers around 1 that cancels in float64; it is told as 0."""


def three(value: float | Tensor) -> str:
    """A number in three digits: ``0.0616``, ``28400``, ``2.7e-11``."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if abs(number) < ROUNDING:
        return "0"
    if 100 <= abs(number) < 1e6:
        return f"{number:.0f}"
    return f"{number:.3g}"


def bracketed(value: float | Tensor) -> str:
    """The same, a negative number in brackets: for a factor."""
    text = three(value)
    return f"({text})" if text.startswith("-") else text


def listed(values: Iterable[float] | Tensor) -> str:
    """The same of several: ``[1, -0.5]``."""
    return f"[{', '.join(three(v) for v in values)}]"
