r"""Average pooling, 1-D to 3-D: of each window the mean goes on.

Indices: ``p`` place of the output, ``q`` place of the input; one, two or three numbers each. The
window of p has ``k`` places and begins at ``p s - e`` (stride s, padding e).

Forward, with n_p the number of places that count::

    y_p = 1/n_p sum_q x_q   over the window of p

n_p is k, less where a window reaches beyond the padding (``ceil_mode``), less where the padding
does not count (``count_include_pad=False``), or a number of one's own (``divisor_override``).

Backward. Every number of a window had the same part in its mean::

    dL/dx_q = sum_p dL/dy_p / n_p   over the windows p that hold q      the shape of x

A window is a box, so this goes axis by axis: 3 + 3 additions for a 3x3 window, not 9. Windows
that lie side by side hold each input once, and then there is nothing to add: dL/dy is repeated.

LeCun et al. (1989), "Handwritten Digit Recognition with a Back-Propagation Network", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.convolutional import per_axis
from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
Windows = tuple[tuple[int, int, int, int, int], ...]
_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class AvgPoolFunction(Function):
    """``x``: (N, C, Q...) or (C, Q...), with ``dims`` axes Q; ``numbers`` as torch takes them."""

    @staticmethod
    def forward(x: Tensor, dims: int, *numbers: Any) -> Tensor:
        return _POOL[dims](x, *numbers)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, dims, kernel, stride, padding, _, ctx.include, *override = inputs
        ctx.windows = windows_of(x, dims, kernel, stride, padding)
        ctx.override = override[0] if override else None
        ctx.nones = (None,) * (len(inputs) - 1)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = widened(grad_y)
        grad_x = spread_mean(grad, ctx.windows, ctx.include, ctx.override)
        return grad_x.to(grad_y.dtype), *ctx.nones


def windows_of(x: Tensor, dims: int, kernel: Any, stride: Any, padding: Any) -> Windows:
    """(axis, size, kernel, stride, padding) of each of the last ``dims`` axes of ``x``."""
    numbers = (per_axis(number, dims) for number in (kernel, stride or kernel, padding))
    return tuple(zip(range(-dims, 0), x.shape[-dims:], *numbers, strict=True))


def spread_mean(
    grad_y: Tensor, windows: Windows, include: bool, override: int | None = None
) -> Tensor:
    """Give every place of a window its share of the gradient of the window's mean."""
    grad_x = grad_y / _divisor(grad_y, windows, include, override)
    for axis, size, kernel, stride, padding in reversed(windows):
        if kernel == stride and padding == 0 and size == kernel * grad_x.shape[axis]:
            grad_x = grad_x.repeat_interleave(kernel, axis)
        else:
            grad_x = _spread(grad_x, axis, size, kernel, stride, padding)
    return grad_x


def _divisor(
    grad_y: Tensor, windows: Windows, include: bool, override: int | None
) -> float | Tensor:
    """n_p: a number where it is the same for all windows."""
    if override is not None:
        return override
    numbers: list[Any] = []
    for axis, size, kernel, stride, padding in windows:
        begins = [p * stride - padding for p in range(grad_y.shape[axis])]
        ends = [min(begin + kernel, size + padding) for begin in begins]
        if not include:
            begins, ends = [max(b, 0) for b in begins], [min(e, size) for e in ends]
        counts = [e - b for b, e in zip(begins, ends, strict=True)]
        if len(set(counts)) <= 1:
            numbers.append(counts[0] if counts else 1)
        else:
            column = torch.tensor(counts, device=grad_y.device)
            numbers.append(column.view(-1, *(1,) * (-1 - axis)))
    return math.prod(numbers)


def _spread(grad_y: Tensor, axis: int, size: int, kernel: int, stride: int, padding: int) -> Tensor:
    """Add each number of ``grad_y`` to the ``kernel`` places of its window along one axis."""
    shape, places = list(grad_y.shape), grad_y.shape[axis]
    shape[axis] = max((places - 1) * stride + kernel, size + padding)
    grad_x = grad_y.new_zeros(shape)
    along = grad_x.transpose(axis, -1)  # a view
    for k in range(kernel):  # the k-th places of all windows at once
        along[..., k : k + (places - 1) * stride + 1 : stride] += grad_y.transpose(axis, -1)
    return grad_x.narrow(axis, padding, size)


def avg_pool1d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Average pooling along a line; as ``F.avg_pool1d``, see :func:`avg_pool2d`."""
    stride = () if stride is None else stride
    return AvgPoolFunction.apply(
        input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad
    )


def avg_pool2d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling with its gradient by hand; as ``torch.nn.functional.avg_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        kernel_size: places in a window, along each axis or one number for all
        stride: places from one window to the next; ``kernel_size`` by default
        padding: places of zeros on each side, at most half a window
        ceil_mode: whether a window may reach beyond the end
        count_include_pad: whether those zeros count
        divisor_override: what to divide by instead

    Returns:
        (N, C, H', W') in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    stride = () if stride is None else stride
    return AvgPoolFunction.apply(
        input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average pooling in space; as ``torch.nn.functional.avg_pool3d``; see :func:`avg_pool2d`."""
    stride = () if stride is None else stride
    return AvgPoolFunction.apply(
        input, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


class AvgPool1d(torch.nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` whose gradient is :class:`AvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L) to (N, C, L')."""
        return avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(torch.nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` whose gradient is :class:`AvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool3d(torch.nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` whose gradient is :class:`AvgPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) to (N, C, D', H', W')."""
        return avg_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 8), 2)
    yield sample(draw(2, 3, 7, 8), (3, 2), (2, 1), (1, 0), label="all numbers")
    yield sample(draw(2, 3, 7, 8), 3, 2, 1, True, label="beyond the end")
    yield sample(draw(2, 3, 7, 8), (3, 4), 2, 1, True, False, label="padding does not count")
    yield sample(draw(3, 7, 8), 2, 3, divisor_override=5, label="one example, a divisor")
    yield sample(draw(2, 3, 4, 5), (4, 5), label="the whole plane")
    yield sample(draw(0, 3, 6, 7), 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6), 2)
    yield sample(draw(3, 8), 3, 2, 1, True, False, label="all numbers")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2)
    yield sample(draw(2, 4, 5, 6), (2, 3, 2), 2, 1, True, False, label="all numbers")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 4, 2, 3, label="more padding than half a window")
    yield sample(draw(2, 3, 6, 7), 8, label="a window larger than the image")
    yield sample(draw(6, 7), 2, label="no channels")
    yield sample(draw(2, 3, 6, 7), 2, divisor_override=0, label="a divisor of zero")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 3, 2, 1, ceil_mode=True, count_include_pad=False)
    yield sample(draw(2, 3, 6, 7), 2, divisor_override=3)


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 3, 2, 1)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), (2, 3, 2))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 2)
    yield sample(draw(32, 64, 28, 28), 2)
    yield sample(draw(32, 64, 28, 28), 3, 2, 1, label="overlapping windows")


def _bench_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 64), 2)
    yield sample(draw(32, 64, 1024), 2)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 8, 8, 8), 2)
    yield sample(draw(4, 16, 16, 32, 32), 2)


AVG_POOL1D = Spec(
    name="avg_pool1d",
    formula="y_p = mean of x_q over the window of p",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=avg_pool1d,
    native=F.avg_pool1d,
    samples=_samples_1d,
    modules={AvgPool1d: _modules_1d},
    bench=_bench_1d,
)
AVG_POOL2D = Spec(
    name="avg_pool2d",
    formula="y_p = mean of x_q over the window of p",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=avg_pool2d,
    native=F.avg_pool2d,
    samples=_samples,
    refused=_refused,
    modules={AvgPool2d: _modules},
    bench=_bench,
)
AVG_POOL3D = Spec(
    name="avg_pool3d",
    formula="y_p = mean of x_q over the window of p",
    gradient="dx_q = sum of dy_p / n_p over the windows p that hold q",
    manual=avg_pool3d,
    native=F.avg_pool3d,
    samples=_samples_3d,
    modules={AvgPool3d: _modules_3d},
    bench=_bench_3d,
)
