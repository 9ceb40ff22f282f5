r"""Views that are copied at once: ``view_copy``, ``permute_copy``, ``unbind_copy`` and their like.

Forward and backward: the view's, and between the two a clone, which changes nothing::

    y = copy of view(x)
    dL/dx = the view's backward of dL/dy
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.ops.clone import clone
from manual_bp.ops.diagonal import diagonal
from manual_bp.ops.expand import expand
from manual_bp.ops.narrow import narrow, select
from manual_bp.ops.part import aten_slice
from manual_bp.ops.permute import permute, t, transpose
from manual_bp.ops.split import split, split_with_sizes, unbind
from manual_bp.ops.view import reshape, squeeze, unsqueeze
from manual_bp.ops.windows import windows
from manual_bp.spec import Draw, Sample, Spec, sample


def _copied(view: Callable[..., Any]) -> Callable[..., Any]:
    """The same view, or the same views, in memory of their own."""

    @functools.wraps(view)
    def copy(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        y = view(input, *args, **kwargs)
        if isinstance(y, Tensor):
            return clone(y, memory_format=torch.contiguous_format)
        return tuple(clone(piece, memory_format=torch.contiguous_format) for piece in y)

    return copy


def view_copy(input: Tensor, size: Any) -> Tensor:
    """``input`` under another shape, copied; as ``torch.view_copy``.

    Args:
        input: any shape
        size: sizes, one of which may be -1

    Raises:
        RuntimeError: From torch, where the number of elements differs.
    """
    return _copied(reshape)(input, size)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (1, -1))


SPEC = Spec(
    name="view_copy",
    formula="y = copy of view(x)",
    gradient="the view's",
    manual=view_copy,
    native=torch.view_copy,
    inplace={
        torch.alias_copy: clone,
        torch.diagonal_copy: _copied(diagonal),
        torch.expand_copy: _copied(expand),
        torch.narrow_copy: _copied(narrow),
        torch.Tensor.narrow_copy: _copied(narrow),
        torch.permute_copy: _copied(permute),
        torch.select_copy: _copied(select),
        torch.slice_copy: _copied(aten_slice),
        torch.split_copy: _copied(split),
        torch.split_with_sizes_copy: _copied(split_with_sizes),
        torch.squeeze_copy: _copied(squeeze),
        torch.t_copy: _copied(t),
        torch.transpose_copy: _copied(transpose),
        torch.unbind_copy: _copied(unbind),
        torch.unfold_copy: _copied(windows),
        torch.unsqueeze_copy: _copied(unsqueeze),
    },
    samples=_samples,
)
