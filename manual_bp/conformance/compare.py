"""How two tensors differ, and what counts as equal.

Two tensors of one dtype are equal when for every element where the reference is finite ::

    |manual - reference| <= rtol * max|reference| + max(rtol / 100, 64 * eps) * scale

``max|reference|`` is over the tensor's finite elements: rounding errors of a gradient scale with
the terms that were summed, not with what is left of them, so that an element that cancels to
almost zero has no relative error worth the name. ``scale`` is the size that the same gradient has
in the example call; it admits rounding where the whole gradient cancels (LayerNorm under a
constant cotangent) or saturates (tanh at 20). Where the reference is NaN or infinite nothing is
asked; where it is finite the other has to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Mismatch", "differ", "largest", "ulps_between"]


@dataclass(frozen=True)
class Mismatch:
    """Where and by how much two tensors differ.

    Attributes:
        index: Of the worst element.
        manual: Its value by hand.
        reference: Its value by autograd.
        relative: Largest difference over the largest reference element.
        ulps: Units in the last place between the two values, in their dtype.
        wrong: How many elements differ by more than the tolerance.
        total: How many elements there are.
        got: The whole tensor by hand.
        expected: The whole tensor by autograd.
        tolerance: The largest difference that would have been accepted.
    """

    index: tuple[int, ...]
    manual: complex | float
    reference: complex | float
    relative: float
    ulps: float
    wrong: int
    total: int
    got: Tensor
    expected: Tensor
    tolerance: float

    @property
    def difference(self) -> float:
        """Of the worst element, as a magnitude."""
        return abs(self.manual - self.reference)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        return {
            "index": list(self.index),
            "manual": _plain(self.manual),
            "autograd": _plain(self.reference),
            "relative_error": _plain(self.relative),
            "ulps": _plain(self.ulps),
            "wrong_elements": self.wrong,
            "elements": self.total,
        }


def _plain(number: complex | float) -> float | str:
    """A number as JSON can hold it: NaN, infinity and complex numbers as text."""
    if isinstance(number, complex) or not math.isfinite(number):
        return str(number)
    return number


def largest(x: Tensor) -> float:
    """The largest magnitude among the finite elements; 0 where there is none."""
    if x.numel() == 0 or x.dtype == torch.bool:
        return 0.0
    magnitude = x.detach().abs()
    top = float(magnitude.max())
    if not math.isfinite(top):
        magnitude = magnitude[magnitude.isfinite()]
        top = float(magnitude.max()) if magnitude.numel() else 0.0
    return top


def differ(
    manual: Tensor, reference: Tensor, *, rtol: float, scale: float = 0.0, atol: float = 0.0
) -> Mismatch | None:
    """The worst difference, or None where the tensors are equal in the sense above.

    Args:
        manual: By hand.
        reference: By autograd, of the same shape and dtype.
        rtol: Relative to the largest element of the reference.
        scale: Size of the same quantity in the example call.
        atol: An absolute difference that is accepted in any case.
    """
    manual, reference = manual.detach(), reference.detach()
    if reference.numel() == 0:
        return None
    if not (reference.dtype.is_floating_point or reference.dtype.is_complex):
        if torch.equal(manual, reference):
            return None
        return _worst(manual, reference, (manual != reference).double(), 0.0)
    distance = (manual - reference).abs()
    eps = torch.finfo(reference.dtype).eps
    top = float(reference.abs().max())
    worst = float(distance.max())
    floor = max(rtol / 100, 64 * eps) * scale + atol
    if math.isfinite(top) and worst <= rtol * top + floor:
        return None
    asked = reference.isfinite()
    top = largest(reference)
    tolerance = rtol * top + floor
    # NaN where a finite number is expected is the worst there is.
    distance = torch.where(asked, distance.nan_to_num(math.inf, math.inf), 0.0)
    if float(distance.max()) <= tolerance:
        return None
    return _worst(manual, reference, distance, tolerance)


def _worst(manual: Tensor, reference: Tensor, distance: Tensor, tolerance: float) -> Mismatch:
    flat = int(distance.reshape(-1).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), reference.shape))
    got, expected = manual[index].item(), reference[index].item()
    top = largest(reference)
    worst = float(distance.max())
    return Mismatch(
        index=index,
        manual=got,
        reference=expected,
        relative=worst / top if top else (math.inf if worst else 0.0),
        ulps=ulps_between(got, expected, reference.dtype),
        wrong=int((distance > tolerance).sum()),
        total=reference.numel(),
        got=manual,
        expected=reference,
        tolerance=tolerance,
    )


def ulps_between(a: complex | float, b: complex | float, dtype: torch.dtype) -> float:
    """The difference of two numbers in units of the last place of ``b``.

    Example:
        >>> ulps_between(1.0 + 2**-52, 1.0, torch.float64)
        1.0
    """
    if not (dtype.is_floating_point or dtype.is_complex):
        return abs(a - b)
    size, distance = abs(b), abs(a - b)
    if not (math.isfinite(size) and math.isfinite(distance)):
        return math.inf
    info = torch.finfo(dtype)
    exponent = math.frexp(max(size, info.tiny))[1] - 1
    return distance / (info.eps * 2.0**exponent)
