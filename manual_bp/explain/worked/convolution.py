"""Convolution: one output is a sum over a window, one weight is blamed at every place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manual_bp.explain.worked.example import Example, Worked, name_at, strongest

__all__ = ["convolution"]


def convolution(example: Example) -> Worked:
    """One output, one weight and one bias of a convolution along one or two axes, of one group."""
    x, w, b = example.need("input"), example.need("weight"), example.given("bias")
    y, axes = example.y, example.need("weight").value.dim() - 2
    settings = example.operation.settings
    if x.value.dim() != axes + 2 or settings.get("groups", 1) != 1:
        raise IndexError
    patches = _windows(x.value, w.value, settings, axes)  # (N, C * window, places)
    n, c, *where = example.at
    place = _flat(where, y.shape[2:])
    products = example.products(patches[n, :, place], w.value[c].flatten())
    plus = f" + {example.show(b.value[c])}" if b is not None else ""
    lines = Worked(
        [f"{name_at('y', example.at)} = {products}{plus} = {example.bare(y.value[example.at])}"]
    )
    if y.gradient is None:
        return lines
    blames = y.gradient.flatten(2)  # (N, out, places)
    if w.gradient is not None:
        at = strongest(w.gradient)
        k = _flat(at[1:], w.shape[1:])
        sums = example.products(blames[:, at[0]].flatten(), patches[:, k].flatten())
        lines.backward.append(f"{name_at('dW', at)} = {sums} = {example.bare(w.gradient[at])}")
    if b is not None and b.gradient is not None:
        sums = example.sums(blames[:, c].flatten())
        lines.backward.append(f"db[{c}] = {sums} = {example.bare(b.gradient[c])}")
    return lines


def _windows(x: Tensor, w: Tensor, settings: dict[str, Any], axes: int) -> Tensor:
    """What stands under the kernel at every place: (N, C * window, places)."""
    stride, padding, dilation = (
        _each(settings.get(name, default), axes)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    if axes == 1:  # one axis more, of size 1
        x, w = x.unsqueeze(2), w.unsqueeze(2)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    return torch.nn.functional.unfold(x, w.shape[2:], dilation, padding, stride)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    if isinstance(value, str):
        raise IndexError
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes // len(value))


def _flat(place: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for k, size in zip(place, shape, strict=True):
        flat = flat * size + k
    return flat
