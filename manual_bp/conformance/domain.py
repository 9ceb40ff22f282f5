"""What the example shows about the values that an input may take."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

__all__ = ["Domain", "simplex_dims"]


class Domain(Enum):
    """The narrowest of these that holds all values of an example input.

    A logarithm is shown positive numbers, a loss is shown probabilities or labels of plus and
    minus one. Derived inputs stay in the domain where the reference has nothing to say outside.
    """

    CATEGORICAL = "two or three whole numbers"
    SIMPLEX = "probabilities that sum to one"
    UNIT = "between zero and one"
    POSITIVE = "above zero"
    ANY = "any number"

    @classmethod
    def of(cls, x: Tensor) -> Domain:
        """The domain that the values of ``x`` suggest."""
        if x.is_complex() or not x.numel():
            return cls.ANY
        values = x.detach().double()
        if not bool(values.isfinite().all()):
            return cls.ANY
        distinct = values.unique()
        whole = bool((distinct == distinct.round()).all())
        if x.numel() >= 4 and len(distinct) <= 3 and whole:
            return cls.CATEGORICAL
        if simplex_dims(x):
            return cls.SIMPLEX
        low, high = float(distinct[0]), float(distinct[-1])
        if low >= 0 and high <= 1:
            return cls.UNIT
        return cls.POSITIVE if low > 0 else cls.ANY


def simplex_dims(x: Tensor) -> tuple[int, ...]:
    """The dimensions over which non-negative values sum to one."""
    if x.is_complex() or not x.dtype.is_floating_point or x.numel() < 2 or float(x.min()) < 0:
        return ()
    found = []
    for dim in range(x.dim()):
        sums = x.detach().double().sum(dim)
        if x.shape[dim] > 1 and bool(torch.isclose(sums, torch.ones_like(sums)).all()):
            found.append(dim)
    return tuple(found)
