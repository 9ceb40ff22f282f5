"""Histograms of tensors, quick enough to be taken while a network trains."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# The upper 12 bits of a float32 are its sign, its exponent and 3 bits of its mantissa: eight bins
# to the octave, about as fine as TensorBoard's own, and a shift finds the bin of a value. Sorting
# into bins by their edges, as numpy.histogram does, takes sixteen times as long.
_SHIFT = 20
_MAGNITUDES = 1 << 11
_INFINITY = 255 << 3
# Lower edge of each bin of magnitudes. No value falls in those from infinity on, where the edge is
# 2^128: TensorBoard's page does not take infinity for a number.
_EDGES = np.full(_MAGNITUDES + 1, 2.0**128)
_EDGES[:_INFINITY] = (np.arange(_INFINITY, dtype=np.uint32) << _SHIFT).view(np.float32)
_OCTAVE = 8
# Octaves below that of the largest value whose bins stay that fine.
_FINE = 5


class Histogram(NamedTuple):
    """A histogram as TensorBoard stores it.

    Attributes:
        min: Smallest value.
        max: Largest value.
        num: Number of values.
        sum: Their sum.
        sum_squares: Sum of their squares.
        bucket_limits: Right edge of each bucket, ascending; each starts where the one before
            ends.
        bucket_counts: Values in each bucket.
    """

    min: float
    max: float
    num: int
    sum: float
    sum_squares: float
    bucket_limits: list[float]
    bucket_counts: list[int]


def histogram(values: np.ndarray) -> Histogram | None:
    """Bin the finite values: eight bins to an octave near the largest, one far below it.

    What lies below a 32nd of the largest value is narrow beside it, and TensorBoard takes longer to
    write a bin (a checksum in pure Python) than it takes to fill it.

    Args:
        values: float32, (N,). NaN and infinity are left out.

    Returns:
        The histogram, or None where no value is finite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    if not len(values):
        return None
    by_bits = np.bincount(values.view(np.uint32) >> _SHIFT, minlength=2 * _MAGNITUDES)
    smallest, largest = float(values.min()), float(values.max())
    top = int(np.float32(max(-smallest, largest)).view(np.uint32)) >> _SHIFT
    cut = max(0, top // _OCTAVE - _FINE) * _OCTAVE
    # Negative bins end at minus their lower edge, the others where the next one starts.
    counts = np.concatenate(
        [_merged(by_bits[_MAGNITUDES:], cut)[::-1], _merged(by_bits[:_MAGNITUDES], cut)]
    )
    edges = np.concatenate([_EDGES[:cut:_OCTAVE], _EDGES[cut:]])
    limits = np.concatenate([-edges[-2::-1], edges[1:]])
    # Of a run of empty bins only the last is kept: the bin after it needs its left edge.
    filled = counts > 0
    kept = filled | np.append(filled[1:], False)
    exact = values.astype(np.float64)
    return Histogram(
        min=smallest,
        max=largest,
        num=len(values),
        sum=float(exact.sum()),
        # Not exact @ exact: BLAS would wake threads of its own, beside those of the training.
        sum_squares=float(np.square(exact).sum()),
        bucket_limits=limits[kept].tolist(),
        bucket_counts=counts[kept].tolist(),
    )


def _merged(counts: np.ndarray, cut: int) -> np.ndarray:
    """The counts with all bins of an octave in one, for the bins below ``cut``."""
    return np.concatenate([counts[:cut].reshape(-1, _OCTAVE).sum(axis=1), counts[cut:]])


def sample(tensor: Tensor, max_values: int) -> Tensor:
    """Take at most ``max_values`` values, evenly spaced over the tensor.

    Args:
        tensor: Any shape, not empty.
        max_values: Upper bound of the number of values.

    Returns:
        float32, at most (max_values,); everything where the tensor is that small.
    """
    flat = tensor.reshape(-1)
    stride = -(-flat.numel() // max_values)
    if stride > 1:
        # A stride that shares a factor with the length of a row would meet the same few columns
        # in every row.
        while math.gcd(stride, flat.numel()) > 1:
            stride += 1
    return flat[::stride].to(torch.float32)
