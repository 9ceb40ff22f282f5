"""The same numbers in memory in other ways: what a backward must not care about.

Gaps between the elements are filled with NaN (or with the first element, where there is no NaN),
so that code that reads past a stride shows it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["COTANGENT_LAYOUTS", "INPUT_LAYOUTS", "lay_out", "repeats", "suits"]


def _as_given(x: Tensor) -> Tensor:
    return x.clone()


def _contiguous(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _transposed(x: Tensor) -> Tensor:
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).clone(memory_format=torch.contiguous_format).permute(order)


def _strided(x: Tensor) -> Tensor:
    shape = (*x.shape[:-1], 2 * x.shape[-1])
    buffer = torch.full(shape, _filler(x), dtype=x.dtype, device=x.device)
    view = buffer[..., ::2]
    view.copy_(x)
    return view


def _offset(x: Tensor) -> Tensor:
    buffer = torch.full((x.numel() + 3,), _filler(x), dtype=x.dtype, device=x.device)
    view = buffer[3:].view(x.shape)
    view.copy_(x)
    return view


def _padded(x: Tensor) -> Tensor:
    shape = [n + 1 for n in x.shape]
    buffer = torch.full(shape, _filler(x), dtype=x.dtype, device=x.device)
    view = buffer[tuple(slice(1, None) for _ in shape)]
    view.copy_(x)
    return view


def _channels_last(x: Tensor) -> Tensor:
    form = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.clone(memory_format=form)


def _expanded_first(x: Tensor) -> Tensor:
    return x.narrow(0, 0, 1).clone().expand(x.shape)


def _expanded_last(x: Tensor) -> Tensor:
    return x.narrow(-1, 0, 1).clone().expand(x.shape)


def _expanded_all(x: Tensor) -> Tensor:
    return x[(0,) * x.dim()].clone().expand(x.shape)


def _filler(x: Tensor) -> float | int | bool:
    if x.dtype.is_floating_point or x.dtype.is_complex:
        return float("nan")
    # An index has no NaN; a wrong index must not leave its range and crash.
    return x.flatten()[0].item() if x.numel() else 0


_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as given": _as_given,
    "contiguous": _contiguous,
    "transposed": _transposed,
    "strided": _strided,
    "storage offset": _offset,
    "inner part": _padded,
    "channels last": _channels_last,
    "expanded over the first dimension": _expanded_first,
    "expanded over the last dimension": _expanded_last,
    "expanded from one element": _expanded_all,
}

INPUT_LAYOUTS = tuple(name for name in _LAYOUTS if name not in ("as given", "contiguous"))
COTANGENT_LAYOUTS = INPUT_LAYOUTS


def repeats(layout: str) -> bool:
    """Whether the layout shows one element in several places, and so changes the numbers."""
    return layout.startswith("expanded")


def suits(layout: str, x: Tensor) -> bool:
    """Whether the layout says anything new about a tensor of this shape."""
    if layout == "channels last":
        return x.dim() in (4, 5)
    if x.dim() == 0:
        return layout == "storage offset"
    if layout == "transposed":
        return x.dim() > 1
    if layout == "expanded over the first dimension":
        return x.dim() > 1 and x.numel() > 0 and x.shape[0] > 1
    if layout == "expanded over the last dimension":
        return x.dim() > 1 and x.numel() > 0 and x.shape[-1] > 1
    if layout == "expanded from one element":
        return x.numel() > 1
    return True


def lay_out(x: Tensor, layout: str) -> Tensor:
    """A new tensor with the values of ``x`` (of its first part, where they repeat)."""
    with torch.no_grad():
        return _LAYOUTS[layout if suits(layout, x) else "contiguous"](x)
