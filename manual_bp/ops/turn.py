r"""A matrix turned and read along its diagonal: fliplr, flipud, rot90, trace, diagflat.

Made of operations that are by hand already, and so are their gradients::

    flipud, fliplr       flip along axis 0, 1: its own backward
    rot90                a quarter is a flip and a transposition, a half two flips
    trace                y = sum_i x_ii, so dL/dx_ii = dL/dy and 0 elsewhere
    diagflat             y_ii = x_i, so dL/dx_i = dL/dy_ii
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.ops.clone import clone
from manual_bp.ops.diagonal import DiagEmbedFunction, diagonal
from manual_bp.ops.flip import FlipFunction
from manual_bp.ops.permute import transpose
from manual_bp.ops.sum import sum
from manual_bp.ops.view import reshape
from manual_bp.spec import Draw, Sample, Spec, sample


def fliplr(input: Tensor) -> Tensor:
    """The columns in reverse order; as ``torch.fliplr``."""
    if input.dim() < 2:
        return torch.fliplr(input)  # which says what is wrong
    return FlipFunction.apply(input, (1,))


def flipud(input: Tensor) -> Tensor:
    """The rows in reverse order; as ``torch.flipud``."""
    if input.dim() < 1:
        return torch.flipud(input)  # likewise
    return FlipFunction.apply(input, (0,))


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned by ``k`` quarters in the plane of two axes; as ``torch.rot90``.

    Args:
        input: at least two axes
        k: quarters, from the first axis of ``dims`` towards the second
        dims: two axes

    Raises:
        RuntimeError: From torch, where these are not two axes of ``input``.
    """
    axes = {d % max(input.dim(), 1) for d in dims if -input.dim() <= d < input.dim()}
    if len(dims) != 2 or len(axes) != 2:
        return torch.rot90(input, k, dims)  # likewise
    first, second = dims
    if k % 4 == 0:
        return clone(input, memory_format=torch.contiguous_format)
    if k % 4 == 2:
        return FlipFunction.apply(input, (first, second))
    flipped = FlipFunction.apply(input, (second,) if k % 4 == 1 else (first,))
    return transpose(flipped, first, second)


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix; as ``torch.trace``.

    Args:
        input: (M, N)

    Raises:
        RuntimeError: From torch, for what is no matrix.
    """
    if input.dim() != 2:
        return torch.trace(input)  # likewise
    return sum(diagonal(input))


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the elements of ``input`` along a diagonal; as ``torch.diagflat``."""
    return DiagEmbedFunction.apply(reshape(input, -1), offset, 0, 1)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 4, 3), -1, (0, -1), label="back, axes")
    yield sample(draw(4, 3), 2, label="a half")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1, (0, 2), label="no such axis")
    yield sample(draw(4, 3), 1, (0,), label="one axis")


def _trace_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _diagflat_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2), 1)


def _no_matrix(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), label="a vector")


ROT90 = Spec(
    name="rot90",
    formula="y_ij = x_j(N-1-i)",
    gradient="dx = dy turned back",
    manual=rot90,
    native=torch.rot90,
    overrides=(torch.Tensor.rot90,),
    inplace={
        torch.fliplr: fliplr,
        torch.Tensor.fliplr: fliplr,
        torch.flipud: flipud,
        torch.Tensor.flipud: flipud,
    },
    samples=_samples,
    refused=_refused,
)
TRACE = Spec(
    name="trace",
    formula="y = sum_i x_ii",
    gradient="dx_ii = dy, else 0",
    manual=trace,
    native=torch.trace,
    overrides=(torch.Tensor.trace,),
    samples=_trace_samples,
    refused=_no_matrix,
)
DIAGFLAT = Spec(
    name="diagflat",
    formula="y_ii = x_i",
    gradient="dx_i = dy_ii",
    manual=diagflat,
    native=torch.diagflat,
    overrides=(torch.Tensor.diagflat,),
    samples=_diagflat_samples,
    skip=("large",),  # of N numbers come N^2
)
