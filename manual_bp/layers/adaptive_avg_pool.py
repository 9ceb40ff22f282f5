r"""Adaptive average pooling, 1-D to 3-D: as many means as one asks for.

Indices: ``p`` of ``P`` places of the output, ``q`` of ``W`` places of the input, along an axis.

Forward. The input is cut into P windows, as equal as they can be; where P does not divide W
neighbours share the place at which they meet::

    window of p:  floor(p W / P) <= q < ceil((p + 1) W / P),  n_p places
    y_p = 1/n_p sum_q x_q   over the window of p, axis by axis

Backward. Every number of a window had the same part in its mean, axis by axis again::

    dL/dx_q = sum_p dL/dy_p / n_p   over the windows p that hold q      the shape of x

With P = 1 each input has the same gradient, 1/n of that of the mean: one number is enough, seen
from every place. Where P divides W each input is in one window, and dL/dy is repeated.

He et al. (2015), "Spatial Pyramid Pooling in Deep Convolutional Networks", section 2.2; with
P = 1, Lin et al. (2014), "Network In Network", section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_POOL: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
Sizes = int | tuple[int | None, ...] | None


class AdaptiveAvgPoolFunction(Function):
    """``x``: (N, C, W...) or (C, W...), with ``dims`` axes W."""

    @staticmethod
    def forward(x: Tensor, dims: int, output_size: Any) -> Tensor:
        return _POOL[dims](x, output_size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, dims, _ = inputs
        ctx.sizes = x.shape[-dims:]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (grad_x,) = widened(grad_y)
        for axis in range(-1, -1 - len(ctx.sizes), -1):
            grad_x = _spread(grad_x, axis, ctx.sizes[axis])
        return grad_x.to(grad_y.dtype), None, None


def _spread(grad_y: Tensor, axis: int, size: int) -> Tensor:
    """Undo the mean along one axis: every place of a window gets its share."""
    places, shape = grad_y.shape[axis], list(grad_y.shape)
    shape[axis] = size
    if places == size:
        return grad_y
    if places == 1:
        return (grad_y / size).expand(shape)
    if places and size % places == 0:
        return (grad_y / (size // places)).repeat_interleave(size // places, axis)
    grad_x = grad_y.new_zeros(shape)
    for p in range(places):
        begin, end = p * size // places, -(-(p + 1) * size // places)
        grad_x.narrow(axis, begin, end - begin).add_(grad_y.narrow(axis, p, 1) / (end - begin))
    return grad_x


def adaptive_avg_pool1d(input: Tensor, output_size: Sizes) -> Tensor:
    """Adaptive average pooling along a line; see :func:`adaptive_avg_pool2d`."""
    return AdaptiveAvgPoolFunction.apply(input, 1, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Sizes) -> Tensor:
    """As many means as ``output_size``; as ``torch.nn.functional.adaptive_avg_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        output_size: of H' and W', or one number for both; None keeps the size of an axis

    Returns:
        (N, C, H', W') in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, for an ``input`` with other axes.
    """
    return AdaptiveAvgPoolFunction.apply(input, 2, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Sizes) -> Tensor:
    """Adaptive average pooling in space; see :func:`adaptive_avg_pool2d`."""
    return AdaptiveAvgPoolFunction.apply(input, 3, output_size)


class AdaptiveAvgPool1d(torch.nn.AdaptiveAvgPool1d):
    """``torch.nn.AdaptiveAvgPool1d`` whose gradient is :class:`AdaptiveAvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L) to (N, C, L')."""
        return adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d):
    """``torch.nn.AdaptiveAvgPool2d`` whose gradient is :class:`AdaptiveAvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(torch.nn.AdaptiveAvgPool3d):
    """``torch.nn.AdaptiveAvgPool3d`` whose gradient is :class:`AdaptiveAvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) to (N, C, D', H', W')."""
        return adaptive_avg_pool3d(input, self.output_size)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 8), (3, 2))
    yield sample(draw(2, 3, 7, 5), (3, 4), label="shared places")
    yield sample(draw(2, 3, 4, 5), (None, 7), label="a size kept, more than there were")
    yield sample(draw(3, 4, 5), 1, label="one example, one mean")
    yield sample(draw(0, 3, 6, 7), 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 3)
    yield sample(draw(3, 6), (2,), label="one example")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2)
    yield sample(draw(2, 4, 5, 6), (None, 3, 1), label="one example")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(6, 7), 2, label="no channels")
    yield sample(draw(2, 3, 6, 7), (2, 2, 2), label="a size too many")
    yield sample(draw(2, 3, 6, 7), -1, label="a negative size")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), (3, None))


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 3)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), (2, 3, 2))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 64, 8, 8), 1)
    yield sample(draw(32, 64, 28, 28), 7)
    yield sample(draw(32, 64, 28, 28), 6, label="shared places")


def _bench_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 64), 4)
    yield sample(draw(32, 64, 1024), 4)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 8, 8, 8), 2)
    yield sample(draw(4, 16, 16, 32, 32), 4)


ADAPTIVE_AVG_POOL1D = Spec(
    name="adaptive_avg_pool1d",
    formula="y_p = mean of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=adaptive_avg_pool1d,
    native=F.adaptive_avg_pool1d,
    samples=_samples_1d,
    modules={AdaptiveAvgPool1d: _modules_1d},
    bench=_bench_1d,
)
ADAPTIVE_AVG_POOL2D = Spec(
    name="adaptive_avg_pool2d",
    formula="y_p = mean of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=adaptive_avg_pool2d,
    native=F.adaptive_avg_pool2d,
    overrides=(torch._C._nn.adaptive_avg_pool2d,),
    samples=_samples,
    refused=_refused,
    modules={AdaptiveAvgPool2d: _modules},
    bench=_bench,
)
ADAPTIVE_AVG_POOL3D = Spec(
    name="adaptive_avg_pool3d",
    formula="y_p = mean of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=adaptive_avg_pool3d,
    native=F.adaptive_avg_pool3d,
    overrides=(torch._C._nn.adaptive_avg_pool3d,),
    samples=_samples_3d,
    modules={AdaptiveAvgPool3d: _modules_3d},
    bench=_bench_3d,
)
