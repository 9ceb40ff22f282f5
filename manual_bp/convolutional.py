"""What convolutions and their transposes share: what a kernel sees, and the gradient of its weight.

In the letters of :mod:`manual_bp.layers.convolution`, where it is derived, dL/dW is a sum over all
examples n and places p, which is added up in one of three ways::

    dL/dW_ock = sum_np dL/dy_nop x_nc(ps+kd-e)                         (O, C, K...)

For a transposed convolution x and dL/dy change places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manual_bp.function import is_recorded

__all__ = [
    "CONVOLUTION",
    "TRANSPOSED",
    "Geometry",
    "Places",
    "by_columns",
    "by_convolution",
    "by_products",
    "no_gradients",
    "per_axis",
    "weight_gradient",
]

F = torch.nn.functional
CONVOLUTION: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
Places = tuple[int, ...]
# Numbers that a core keeps at hand while it adds to them.
_IN_CACHE = 2**17


def per_axis(value: Any, dims: int) -> Places:
    """One number for each spatial axis, given as one for all or as a sequence."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * dims if len(values) == 1 else values


class Geometry(NamedTuple):
    """What a kernel sees of its input; one number for each spatial axis."""

    taps: Places
    stride: Places
    padding: Places
    dilation: Places
    groups: int


def no_gradients(
    x: Tensor, weight: Tensor, outputs: int, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Zeros for x, weight and bias: without examples or channels torch computes nothing."""
    zeros = torch.zeros_like(x), torch.zeros_like(weight), weight.new_zeros(outputs)
    return [grad if need else None for grad, need in zip(zeros, needed, strict=False)]


def weight_gradient(x: Tensor, grad_y: Tensor, g: Geometry) -> Tensor:
    """``dL/dW``: (O, C/groups, *taps), by the quickest of three forms of the same sum.

    Measured against the native kernel, which no forward operation reaches: the exchanged
    convolution takes 0.9 to 1.5 of its time where a weight's fan-in is large. It has to lay out
    all of grad_y as weights, which does not pay where they are used few times; there, and in
    float64, for which oneDNN has no convolution at all, a matrix product over columns takes 0.5
    to 1.7. With one channel a group a product of matrices has nothing to share: plain products.
    """
    if not is_recorded() and x.dtype in (torch.float32, torch.float64):
        if x.shape[1] == g.groups > 1:
            return by_products(x, grad_y, g)
        taps, places = math.prod(g.taps), math.prod(grad_y.shape[2:])
        fan_in = x.shape[1] // g.groups * taps
        if x.dtype == torch.float64 or fan_in <= (places if taps == 1 else 64):
            return by_columns(x, grad_y, g)
    return by_convolution(x, grad_y, g)


def by_convolution(x: Tensor, grad_y: Tensor, g: Geometry) -> Tensor:
    """Convolve x with grad_y, examples and channels exchanged, stride and dilation too."""
    # (C/g, g N, Q...): each group brings its own examples, as the channels of that group.
    x = x.unflatten(1, (g.groups, -1)).movedim((2, 1), (0, 1)).flatten(1, 2)
    convolution = CONVOLUTION[len(g.taps)]
    weight = grad_y.transpose(0, 1)
    grad = convolution(x, weight, None, g.dilation, g.padding, g.stride, g.groups)
    # Inputs that the stride left unseen show up as taps that the kernel does not have.
    for axis, size in enumerate(g.taps, 2):
        grad = grad.narrow(axis, 0, size)
    return grad.transpose(0, 1)


def _windows(x: Tensor, places: Places, g: Geometry) -> Tensor:
    """What each output sees, as a view of the padded input: (N, C, P..., K...)."""
    if any(g.padding):
        x = F.pad(x, [e for e in reversed(g.padding) for _ in range(2)])
    each = zip(g.taps, g.stride, g.dilation, places, strict=True)
    for axis, (taps, s, d, size) in enumerate(each, 2):
        x = x.unfold(axis, d * (taps - 1) + 1, s).narrow(axis, 0, size)[..., ::d]
    return x


def by_columns(x: Tensor, grad_y: Tensor, g: Geometry) -> Tensor:
    """Write out the inputs of each output as a column: the sum over p is a matrix product."""
    dims, (examples, channels) = len(g.taps), grad_y.shape[:2]
    x = _windows(x, grad_y.shape[2:], g).unflatten(1, (g.groups, -1))
    grad_y = grad_y.unflatten(1, (g.groups, -1)).flatten(3)  # (N, g, O/g, P)
    places, taps = range(3, 3 + dims), range(3 + dims, 3 + 2 * dims)
    fan_in = x.shape[2] * math.prod(g.taps)
    if fan_in < grad_y.shape[3]:  # a product an example: grad_y stays where it is
        columns = x.permute(0, 1, 2, *taps, *places).reshape(examples, g.groups, fan_in, -1)
        grad = (grad_y @ columns.transpose(2, 3)).sum(0)
    else:  # one product for all: many small results would take longer to add up
        columns = x.permute(1, 2, *taps, 0, *places).reshape(g.groups, fan_in, -1)
        grad = grad_y.movedim(0, 2).flatten(2) @ columns.transpose(1, 2)
    return grad.reshape(channels, -1, *g.taps)


def by_products(x: Tensor, grad_y: Tensor, g: Geometry) -> Tensor:
    """Multiply element by element and add up over examples first, a few at a time, in the cache."""
    dims = len(g.taps)
    places, taps = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    x = (
        _windows(x, grad_y.shape[2:], g).permute(0, *taps, 1, *places).unsqueeze(dims + 2)
    )  # (N, K..., g, 1, P...)
    grad_y = grad_y.unflatten(1, (g.groups, -1))[:, *(None,) * dims]  # (N, 1..., g, O/g, P...)
    shape = torch.broadcast_shapes(x.shape[1:], grad_y.shape[1:])
    count = min(len(x), 1 + _IN_CACHE // math.prod(shape))
    total = x.new_zeros(count, *shape)
    for some_x, some_grad_y in zip(x.split(count), grad_y.split(count), strict=True):
        total[: len(some_x)].addcmul_(some_x, some_grad_y)
    grad = total.sum((0, *range(-dims, 0)))  # (K..., g, O/g)
    return grad.flatten(-2).movedim(-1, 0).unsqueeze(1)
