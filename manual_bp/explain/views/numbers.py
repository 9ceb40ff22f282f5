"""Numbers as people read them: small tensors in full, large ones by shape, norm and range."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["FULL", "abridged", "agreement", "is_small", "number", "shape", "share"]

FULL = 24
"""The largest number of elements that is written out in text."""


def number(value: complex | float | bool, precision: int = 4) -> str:
    """A number with so many significant digits, without what says nothing: ``0.5``, ``1.2e-05``."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, complex):
        return f"{number(value.real, precision)}{value.imag:+.{precision}g}i"
    if math.isnan(value) or math.isinf(value):
        return {True: "NaN"}.get(math.isnan(value), "inf" if value > 0 else "-inf")
    return f"{value:.{precision}g}"


def shape(tensor: Tensor) -> str:
    """``4 x 3``; ``a number`` for none."""
    return " x ".join(map(str, tensor.shape)) or "a number"


def is_small(tensor: Tensor, full: int = FULL) -> bool:
    """Whether all of it is written out."""
    return tensor.numel() <= full


def abridged(tensor: Tensor, precision: int = 4, full: int = FULL) -> str:
    """The numbers, or, of a large tensor, shape, norm and range."""
    if is_small(tensor, full):
        return _nested(tensor.tolist(), precision)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return f"{shape(tensor)}, {tensor.min().item()} to {tensor.max().item()}"
    finite = tensor[torch.isfinite(tensor)]
    if tensor.is_complex():
        return f"{shape(tensor)}, norm {number(float(finite.norm()), precision)}"
    told = f"{shape(tensor)}, norm {number(float(finite.norm()), precision)}"
    if finite.numel():
        low, high = (number(float(v), precision) for v in (finite.min(), finite.max()))
        told += f", {low} to {high}"
    lost = tensor.numel() - finite.numel()
    return told + (f", {lost} not finite" if lost else "")


def _nested(value: object, precision: int) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_nested(v, precision) for v in value) + "]"
    return number(value, precision)  # type: ignore[arg-type]


def agreement(error: float) -> str:
    """A relative error against autograd: ``0 (the same bits)``, ``1.2e-16``."""
    return "0 (the same bits)" if error == 0 else f"{error:.1e}"


def share(part: float) -> str:
    """A part of a whole: ``58 %``."""
    return f"{100 * part:.0f} %" if part == 0 or part >= 0.01 else "below 1 %"
