r"""Quantiles, and sums and means of what is not NaN: quantile, nanquantile, nansum, nanmean.

Indices: ``m`` element, M of them along the axis; x_(0) <= x_(1) <= ... the same ones in order. The
quantile ``q`` lies at rank r = q (M - 1), most often between two of them::

    y = x_(k) + w (x_(k+1) - x_(k)),   k = floor(r), w = r - k

Backward: sort, gather and lerp are by hand, so that two elements are blamed, each by its weight::

    dL/dx_(k) = dL/dy (1 - w),   dL/dx_(k+1) = dL/dy w,   dL/dq = dL/dy (x_(k+1) - x_(k)) (M - 1)

A NaN among them makes the quantile NaN; ``nanquantile`` counts only the others into M. Likewise
for a sum and a mean of what is not NaN, which is as if the NaN were 0::

    y = sum_m x_m over those that are no NaN         dL/dx_m = dL/dy there, else 0
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import nothing_to_do
from manual_bp.ops.add import sub
from manual_bp.ops.div import div
from manual_bp.ops.gather import gather
from manual_bp.ops.lerp import lerp
from manual_bp.ops.mul import mul
from manual_bp.ops.permute import movedim
from manual_bp.ops.pick import sort
from manual_bp.ops.sum import axes, sum
from manual_bp.ops.view import flatten, squeeze, unsqueeze, view
from manual_bp.ops.where import masked_fill
from manual_bp.spec import Draw, Sample, Spec, sample

_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(
    input: Tensor,
    q: Tensor | float,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """Quantiles along ``dim``; as ``torch.quantile``.

    Args:
        input: any shape, float32 or float64
        q: between 0 and 1; a number or (Q)
        dim: an axis; None for the flattened tensor
        keepdim: leave the axis in place, with size 1
        interpolation: "linear", "lower", "higher", "midpoint" or "nearest"

    Returns:
        The shape of ``input`` without ``dim``, with Q in front where ``q`` is a vector.

    Raises:
        RuntimeError: From torch, for another dtype, ``q`` or ``interpolation``.
    """
    if nothing_to_do(input, q) or _unfit(input, q, interpolation):
        return torch.quantile(input, q, dim, keepdim, interpolation=interpolation)
    return _quantile(input, q, dim, keepdim, interpolation, without_nan=False)


def nanquantile(
    input: Tensor,
    q: Tensor | float,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """Quantiles of what is not NaN; as ``torch.nanquantile``, arguments as :func:`quantile`."""
    if nothing_to_do(input, q) or _unfit(input, q, interpolation):
        return torch.nanquantile(input, q, dim, keepdim, interpolation=interpolation)
    return _quantile(input, q, dim, keepdim, interpolation, without_nan=True)


def _unfit(input: Tensor, q: Any, interpolation: str) -> bool:
    """Whether torch has something to say against the arguments."""
    if interpolation not in _METHODS or input.numel() == 0:
        return True
    if not isinstance(q, Tensor):
        return not 0 <= q <= 1
    if q.dtype != input.dtype or q.dim() > 1 or q.numel() == 0:
        return True
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False  # where nothing is to be decided by values
    return q.is_cpu and not bool(((q >= 0) & (q <= 1)).all())


def _quantile(
    input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, without_nan: bool
) -> Tensor:
    if not isinstance(q, Tensor):
        q = torch.tensor(q, dtype=input.dtype, device=input.device)
    rows = flatten(input) if dim is None or input.dim() == 0 else movedim(input, dim, -1)
    ordered, _ = sort(rows)  # NaN last
    nan = rows.isnan()
    last = torch.full_like(nan[..., :1], rows.shape[-1] - 1, dtype=torch.int64)
    if without_nan:
        last = (last - nan.sum(-1, keepdim=True)).clamp(min=0)
    rank = mul(last.to(input.dtype), view(q, -1))
    if not without_nan:
        rank = masked_fill(rank, nan.any(-1, keepdim=True), float(rows.shape[-1] - 1))  # a NaN
    constant = rank.detach()
    below = constant.floor()
    if interpolation == "linear":
        weight = sub(rank, below)
    elif interpolation == "nearest":
        weight = constant.round() - below
    else:
        step = {"lower": 0.0, "midpoint": 0.5, "higher": 1.0}[interpolation]
        weight = (constant > below).to(below.dtype) * step
    k = below.long()
    y = lerp(gather(ordered, -1, k), gather(ordered, -1, torch.minimum(k + 1, last)), weight)
    y = movedim(y, -1, 0)  # Q in front
    y = y if q.dim() else squeeze(y, 0)
    if not keepdim:
        return y
    if dim is None:
        return view(y, [*q.shape, *[1] * input.dim()])
    return unsqueeze(y, dim % input.dim() + q.dim()) if input.dim() else y


def nansum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """Sum of what is not NaN; as ``torch.nansum``.

    Args:
        input: any shape
        dim: an axis, several, or None for all
        keepdim: leave the axes in place, with size 1
        dtype: cast to first

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    if nothing_to_do(input):
        return torch.nansum(input, dim, keepdim, dtype=dtype)
    return sum(masked_fill(input, input.isnan(), 0.0), dim, keepdim, dtype=dtype)


def nanmean(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """Mean of what is not NaN; as ``torch.nanmean``, arguments as :func:`nansum`."""
    if nothing_to_do(input):
        return torch.nanmean(input, dim, keepdim, dtype=dtype)
    over = axes(dim, input.dim())
    count = input.isnan().logical_not().sum(over, keepdim) if input.dim() else ~input.isnan()
    return div(nansum(input, dim, keepdim, dtype=dtype), count)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.4)
    q = torch.tensor([0.1, 0.5, 1.0], dtype=draw.dtype, device=draw.device)
    yield sample(draw(4, 3), q, 0, True, label="several, kept")
    yield sample(draw(4, 3), 0.4, 1, interpolation="nearest", label="nearest", smooth=False)
    nan = float("nan")
    yield sample(draw.values(1.0, nan, 3.0, 2.0), 0.6, label="NaN", smooth=False)


def _nan_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), (0, -1), True, label="two axes kept")
    nan = float("nan")
    yield sample(draw.values(1.0, nan, 3.0, nan), 0, label="NaN", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1.5, label="above 1")
    yield sample(draw(4, 3), 0.5, interpolation="quadratic", label="interpolation")


QUANTILE = Spec(
    name="quantile",
    formula="y = x_(k) + w (x_(k+1) - x_(k))",
    gradient="dx_(k) = dy (1 - w),  dx_(k+1) = dy w",
    manual=quantile,
    native=torch.quantile,
    overrides=(torch.Tensor.quantile,),
    inplace={torch.nanquantile: nanquantile, torch.Tensor.nanquantile: nanquantile},
    samples=_samples,
    refused=_refused,
)
NANSUM = Spec(
    name="nansum",
    formula="y = sum of the x_m that are no NaN",
    gradient="dx_m = dy there, else 0",
    manual=nansum,
    native=torch.nansum,
    overrides=(torch.Tensor.nansum,),
    inplace={torch.nanmean: nanmean, torch.Tensor.nanmean: nanmean},
    samples=_nan_samples,
)
