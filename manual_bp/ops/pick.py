r"""What picks elements out by their size, and says where: max, min, median, sort, topk and others.

Forward, with i(m) the place along an axis that was picked::

    y_m = x_i(m)                      and the indices i(m) besides

Backward: the picked element is blamed alone; a shift of another, small enough, changes nothing::

    dL/dx_i = sum_{m: i(m) = i} dL/dy_m

Where several are the largest, ``max`` along an axis says which one it took by its index. ``max``,
``min`` and ``median`` over all return no index: those that are equal share the blame, as in
:mod:`manual_bp.ops.extreme`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.clamp import maximum, minimum
from manual_bp.ops.extreme import ExtremeFunction
from manual_bp.spec import Draw, Sample, Spec, sample


class PickFunction(Function):
    """``x``: any shape; ``method``: its name in torch; ``named``: its arguments by name."""

    @staticmethod
    def forward(x: Tensor, method: str, named: dict[str, Any]) -> tuple[Tensor, Tensor]:
        values, indices = getattr(torch, method)(x, **named)
        return values, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, _, named = inputs
        values, indices = output
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.dim, ctx.lost = x.shape, named["dim"], values.dim() < x.dim()
        ctx.save_for_backward(indices)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, None, None
        (indices,) = ctx.saved_tensors
        if ctx.lost:
            grad_y, indices = grad_y.unsqueeze(ctx.dim), indices.unsqueeze(ctx.dim)
        # Added up, as a running maximum picks an element more than once.
        grad_x = grad_y.new_zeros(ctx.shape).scatter_add(ctx.dim, indices, grad_y)
        return grad_x, None, None


def _pick(method: str, input: Tensor, **named: Any) -> Any:
    """The picked values and their indices, in the named tuple in which torch returns them."""
    picked = PickFunction.apply(input, method, named)
    return getattr(torch.return_types, method)(picked)


def max(input: Tensor, dim: Any = None, keepdim: bool = False, **other: Tensor) -> Any:
    """The largest, and along an axis its index; as ``torch.max``.

    Args:
        input: any shape
        dim: an axis, None for all; a tensor, for the larger of the two element by element
        keepdim: leave the axis in place, with size 1
        other: ``other``, a tensor given by its name

    Returns:
        Values and indices; the value alone without ``dim``.

    Raises:
        IndexError: From torch, where there is no such axis, or it is empty.
    """
    if other or isinstance(dim, Tensor):
        return maximum(input, *other.values()) if other else maximum(input, dim)
    if dim is None:
        return ExtremeFunction.apply(input, "max", None, False)
    return _pick("max", input, dim=dim, keepdim=keepdim)


def min(input: Tensor, dim: Any = None, keepdim: bool = False, **other: Tensor) -> Any:
    """The smallest, and along an axis its index; as ``torch.min``, arguments as :func:`max`."""
    if other or isinstance(dim, Tensor):
        return minimum(input, *other.values()) if other else minimum(input, dim)
    if dim is None:
        return ExtremeFunction.apply(input, "min", None, False)
    return _pick("min", input, dim=dim, keepdim=keepdim)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median, and along an axis its index; as ``torch.median``."""
    if dim is None:
        return ExtremeFunction.apply(input, "median", None, False)
    return _pick("median", input, dim=dim, keepdim=keepdim)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is not NaN; as ``torch.nanmedian``."""
    if dim is None:
        return ExtremeFunction.apply(input, "nanmedian", None, False)
    return _pick("nanmedian", input, dim=dim, keepdim=keepdim)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent along ``dim``, and an index of it; as ``torch.mode``."""
    return _pick("mode", input, dim=dim, keepdim=keepdim)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The ``k``-th smallest along ``dim``, and its index; as ``torch.kthvalue``."""
    return _pick("kthvalue", input, k=k, dim=dim, keepdim=keepdim)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The ``k`` largest along ``dim``, and their indices; as ``torch.topk``.

    Args:
        input: any shape
        k: how many
        dim: an axis
        largest: False for the smallest
        sorted: in order

    Raises:
        RuntimeError: From torch, where there are fewer than ``k``.
    """
    return _pick("topk", input, k=k, dim=dim, largest=largest, sorted=sorted)


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The elements in order along ``dim``, and their indices; as ``torch.sort``.

    Args:
        input: any shape
        dim: an axis
        descending: the largest first
        stable: equal ones keep their order
    """
    return _pick("sort", input, stable=stable, dim=dim, descending=descending)


def msort(input: Tensor) -> Tensor:
    """The elements in order along the first axis; as ``torch.msort``."""
    return PickFunction.apply(input, "sort", {"stable": False, "dim": 0, "descending": False})[0]


def cummax(input: Tensor, dim: int) -> Any:
    """The largest so far along ``dim``, and its index; as ``torch.cummax``."""
    return _pick("cummax", input, dim=dim)


def cummin(input: Tensor, dim: int) -> Any:
    """The smallest so far along ``dim``, and its index; as ``torch.cummin``."""
    return _pick("cummin", input, dim=dim)


def _max_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1)
    yield sample(draw(4, 3), label="all")
    yield sample(draw(4, 3, 2), -2, True, label="kept")
    yield sample(draw.values(1.0, 2.0, 2.0, 1.0), label="ties", smooth=False)
    yield sample(draw.values(1.0, 2.0, 2.0, 1.0), 0, label="ties along an axis", smooth=False)


def _axis_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0)
    yield sample(draw(4, 3, 2), 1, True, label="kept")


def _kth_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2)
    yield sample(draw(4, 3), 2, 0, True, label="kept")


def _topk_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 2)
    yield sample(draw(4, 6), 3, 0, largest=False, label="smallest")


def _sort_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6))
    yield sample(draw(4, 6), 0, True, label="descending")
    yield sample(draw.values(2.0, 1.0, 2.0, 1.0), stable=True, dim=0, label="ties", smooth=False)


def _running_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 1)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")
    yield sample(draw(4, 0), 1, label="an empty axis")


_FORMULA = "y_m = x_i(m)"
_GRADIENT = "dx_i = sum_{m: i(m) = i} dy_m"

MAX = Spec(
    name="max",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=max,
    native=torch.max,
    overrides=(torch.Tensor.max,),
    samples=_max_samples,
    refused=_refused,
)
MIN = Spec(
    name="min",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=min,
    native=torch.min,
    overrides=(torch.Tensor.min,),
    samples=_max_samples,
)
MEDIAN = Spec(
    name="median",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=median,
    native=torch.median,
    overrides=(torch.Tensor.median,),
    samples=_max_samples,
)
NANMEDIAN = Spec(
    name="nanmedian",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=nanmedian,
    native=torch.nanmedian,
    overrides=(torch.Tensor.nanmedian,),
    samples=_axis_samples,
)
MODE = Spec(
    name="mode",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=mode,
    native=torch.mode,
    overrides=(torch.Tensor.mode,),
    samples=_axis_samples,
)
KTHVALUE = Spec(
    name="kthvalue",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=kthvalue,
    native=torch.kthvalue,
    overrides=(torch.Tensor.kthvalue,),
    samples=_kth_samples,
)
TOPK = Spec(
    name="topk",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=topk,
    native=torch.topk,
    overrides=(torch.Tensor.topk,),
    samples=_topk_samples,
)
SORT = Spec(
    name="sort",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=sort,
    native=torch.sort,
    overrides=(torch.Tensor.sort,),
    inplace={torch.msort: msort, torch.Tensor.msort: msort},
    samples=_sort_samples,
)
CUMMAX = Spec(
    name="cummax",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=cummax,
    native=torch.cummax,
    overrides=(torch.Tensor.cummax,),
    samples=_running_samples,
)
CUMMIN = Spec(
    name="cummin",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=cummin,
    native=torch.cummin,
    overrides=(torch.Tensor.cummin,),
    samples=_running_samples,
)
