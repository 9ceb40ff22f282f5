"""What is kept of a tensor: its shape, its range, and how many of its numbers are none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from manual_bp.wording import counted

__all__ = ["Summary", "number", "summarize"]


@dataclass(frozen=True)
class Summary:
    """A tensor in a line.

    Attributes:
        name: What it is called here: a parameter's name, an argument's.
        shape: Its shape.
        dtype: "float32".
        low: Smallest finite value, NaN where there is none.
        high: Largest finite value, likewise.
        rms: Root of the mean square of the finite values, likewise.
        nan: How many elements are NaN.
        inf: How many are infinite.
        first: Index of the first that is not finite; None where all are.
        zeros: How many are zero.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    rms: float
    nan: int = 0
    inf: int = 0
    first: tuple[int, ...] | None = None
    zeros: int = 0

    @property
    def finite(self) -> bool:
        """Whether every element is a number."""
        return not self.nan and not self.inf

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    def called(self, name: str) -> Summary:
        """The same under another name."""
        return replace(self, name=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with None for what is not a number."""
        known = asdict(self)
        for key in ("low", "high", "rms"):
            known[key] = known[key] if math.isfinite(known[key]) else None
        known["shape"] = list(self.shape)
        known["first"] = None if self.first is None else list(self.first)
        return known

    def __str__(self) -> str:
        """Write ``weight: float32 4x3 in [-0.5, 0.4], 1 NaN``."""
        shape = "x".join(map(str, self.shape)) or "scalar"
        parts = [f"{self.dtype} {shape}"]
        if math.isfinite(self.low):
            same = self.low == self.high
            parts[0] += (
                f" {number(self.low)}"
                if self.size == 1
                else f", all {number(self.low)}"
                if same and self.finite
                else f" in [{number(self.low)}, {number(self.high)}]"
            )
        if self.zeros and self.low != self.high:
            parts.append(counted(self.zeros, "zero"))
        if self.nan:
            parts.append(f"{self.nan} NaN")
        if self.inf:
            parts.append(f"{self.inf} infinite")
        text = ", ".join(parts)
        if self.first:
            text += f" (the first at [{', '.join(map(str, self.first))}])"
        return f"{self.name}: {text}" if self.name else text


@torch.no_grad()
def summarize(tensor: Tensor, name: str = "") -> Summary:
    """Summarize a tensor of any shape and dtype.

    Args:
        tensor: Sparse and complex ones too; of a sparse one what is stored, of a complex one its
            two parts.
        name: What it is called.
    """
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    x = tensor.detach()
    if x.layout is not torch.strided:
        x = x.coalesce().values() if x.is_sparse else x.to_dense()
    if x.is_complex():
        x = torch.view_as_real(x)
    total_size = max(x.numel(), tensor.numel())  # what a sparse tensor does not store is zero
    if x.numel() == 0:
        return Summary(name, shape, dtype, math.nan, math.nan, math.nan)
    # Squares of float32 numbers leave its range where they tell most: in what explodes.
    x = x.double()
    low, high, total = torch.stack([*x.aminmax(), x.square().sum()]).tolist()
    zeros = total_size - int(x.count_nonzero())
    if math.isfinite(low) and math.isfinite(high):
        rms = math.sqrt(total / total_size)
        return Summary(name, shape, dtype, low, high, rms, zeros=zeros)
    bad = ~x.isfinite()
    nan = int(x.isnan().sum())
    first = tuple(bad.nonzero()[0].tolist())[: len(shape)]
    good = x[~bad]
    if good.numel():
        low, high, rms = good.min().item(), good.max().item(), good.square().mean().sqrt().item()
    else:
        low = high = rms = math.nan
    return Summary(name, shape, dtype, low, high, rms, nan, int(bad.sum()) - nan, first, zeros)


def number(value: float) -> str:
    """A number in three digits, without a trailing ``.0`` or a padded exponent."""
    if not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "NaN")
    text = f"{value:.3g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text
