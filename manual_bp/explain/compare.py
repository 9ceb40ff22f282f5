"""How far two gradients of one step are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["difference", "largest", "worst"]


def largest(x: Tensor | None) -> float:
    """The largest magnitude among the finite elements; 0 where there is none."""
    if x is None or x.numel() == 0:
        return 0.0
    return float(torch.nan_to_num(x.detach(), nan=0.0, posinf=0.0, neginf=0.0).abs().max())


def difference(manual: Tensor | None, autograd: Tensor | None, scale: float = 0.0) -> float | None:
    """The largest difference over the largest number, the relative error of a tensor.

    Rounding errors scale with the terms of a sum, not with what is left of them; so one element
    has no relative error of its own.

    Args:
        manual: By hand.
        autograd: By autograd.
        scale: Replaces the largest number where that is smaller than sqrt(eps) * scale: a gradient
            that cancels to zero, like that of a bias before BatchNorm, is rounding noise.

    Returns:
        The error, NaN where one is finite and the other is not, inf where the shapes differ or
        just one of the two is None and the other is not zero; None where autograd's is unknown.
    """
    if manual is None and autograd is None:
        return None
    if manual is None or autograd is None:
        return None if autograd is None else (math.inf if largest(autograd) else 0.0)
    if manual.shape != autograd.shape:
        return math.inf
    if manual.numel() == 0:
        return 0.0
    finite = torch.isfinite(manual)
    if not torch.equal(finite, torch.isfinite(autograd)):
        return math.nan
    apart = float(torch.where(finite, manual - autograd, 0).abs().max())
    size = largest(autograd)
    if size < scale * torch.finfo(autograd.dtype).eps ** 0.5:
        size = scale
    return apart / size if size else (0.0 if apart == 0 else math.inf)


def worst(errors: Iterable[float | None]) -> float | None:
    """The largest of the errors that are known, NaN above all; None where none is."""
    known = [e for e in errors if e is not None]
    return max(known, key=lambda e: math.inf if math.isnan(e) else e, default=None)
