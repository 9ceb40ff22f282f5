r"""Lp pooling, 1-D to 3-D: of each window the p-norm goes on.

Indices: ``o`` place of the output, ``q`` place of the input, K places in a window.

Forward, a sum taken as K times a mean::

    y_o = (sum_q x_q^p)^(1/p)   over the window of o

p = 1 is a sum, p = 2 a root of squares, p = infinity the largest magnitude. As in PyTorch no
magnitude is taken for another p: a negative sum has no root, and is NaN.

Backward. The outer derivative is told from y, since ``1/p s^(1/p - 1) = 1/p y^(1-p)``, and the p
of the inner one cancels the 1/p::

    dL/dx_q = x_q^(p-1) sum_o dL/dy_o y_o^(1-p)   over the windows o that hold q

A window of zeros has y = 0 and no derivative; like PyTorch, this takes 0. For p = infinity all the
blame is the largest's, as in max pooling, with the sign of x.

Sermanet, Chintala & LeCun (2012), "Convolutional Neural Networks Applied to House Numbers Digit
Classification", section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.convolutional import per_axis
from manual_bp.function import Function, widened
from manual_bp.layers.avg_pool import spread_mean, windows_of
from manual_bp.layers.max_pool import max_pool1d, max_pool2d, max_pool3d
from manual_bp.ops.sign import abs, neg
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_POOL: dict[int, Callable[..., Tensor]] = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}
_MAX: dict[int, Callable[..., Any]] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
Sizes = int | tuple[int, ...]


class LpPoolFunction(Function):
    """``x``: (N, C, Q...) or (C, Q...), with ``dims`` axes Q; ``p`` finite."""

    @staticmethod
    def forward(x: Tensor, dims: int, p: float, kernel: Any, stride: Any, ceil: bool) -> Tensor:
        return _POOL[dims](x, p, kernel, stride, ceil)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, dims, ctx.p, kernel, stride, _ = inputs
        ctx.windows = windows_of(x, dims, kernel, stride, 0)
        ctx.places = math.prod(per_axis(kernel, dims))
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        x_dtype, p = x.dtype, ctx.p
        grad_y, x, y = widened(grad_y, x, y)
        none = y == 0
        outer = grad_y * torch.where(none, torch.ones_like(y), y).pow(1 - p) * ctx.places
        outer = torch.where(none, torch.zeros_like(y), outer)
        grad_x = spread_mean(outer, ctx.windows, include=True) * x.pow(p - 1)
        return grad_x.to(x_dtype), None, None, None, None, None


def _lp_pool(dims: int, x: Tensor, p: float, kernel: Any, stride: Any, ceil: bool) -> Tensor:
    if isinstance(p, float) and math.isinf(p):
        how = kernel, stride, 0, 1, ceil
        if p > 0:
            return _MAX[dims](abs(x), *how)
        return neg(_MAX[dims](neg(abs(x)), *how))
    return LpPoolFunction.apply(x, dims, p, kernel, stride, ceil)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Lp pooling along a line; see :func:`lp_pool2d`."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of each window; as ``torch.nn.functional.lp_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        norm_type: p
        kernel_size: places in a window, along each axis or one number for both
        stride: places from one window to the next; ``kernel_size`` by default
        ceil_mode: whether a window may reach beyond the end

    Returns:
        (N, C, H', W') in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Lp pooling in space; see :func:`lp_pool2d`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


class LPPool1d(torch.nn.LPPool1d):
    """``torch.nn.LPPool1d`` whose gradient is :class:`LpPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L) to (N, C, L')."""
        return lp_pool1d(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool2d(torch.nn.LPPool2d):
    """``torch.nn.LPPool2d`` whose gradient is :class:`LpPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return lp_pool2d(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool3d(torch.nn.LPPool3d):
    """``torch.nn.LPPool3d`` whose gradient is :class:`LpPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) to (N, C, D', H', W')."""
        return lp_pool3d(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 2, 2)
    x = draw(2, 3, 7, 8, scale=0.2, shift=2.0)
    yield sample(x, 3.5, (3, 2), (2, 1), True, label="any power, beyond the end")
    yield sample(draw(3, 6, 7), 1, 2, label="one example, a sum")
    yield sample(draw(2, 3, 6, 7), float("inf"), 2, label="the largest")
    yield sample(draw(2, 3, 6, 7), float("-inf"), 2, label="the smallest")
    zeros = draw.values(0, 0, 0, 0, 1, -2, 0, 3).view(1, 2, 2, 2).detach().requires_grad_()
    yield sample(zeros, 2, 2, label="a window of zeros", smooth=False)
    yield sample(draw(0, 3, 6, 7), 2, 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 2, 3, 2)


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2, (2, 3, 2))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 2, 8, label="a window larger than the image")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 2, 3, 2, ceil_mode=True)


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 2, 3)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2, 2)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 2, 2)
    yield sample(draw(32, 64, 28, 28), 2, 2)


LP_POOL1D = Spec(
    name="lp_pool1d",
    formula="y_o = (sum_q x_q^p)^(1/p) over the window of o",
    gradient="dx_q = x_q^(p-1) sum of dy_o y_o^(1-p) over the windows o that hold q",
    manual=lp_pool1d,
    native=F.lp_pool1d,
    samples=_samples_1d,
    modules={LPPool1d: _modules_1d},
)
LP_POOL2D = Spec(
    name="lp_pool2d",
    formula="y_o = (sum_q x_q^p)^(1/p) over the window of o",
    gradient="dx_q = x_q^(p-1) sum of dy_o y_o^(1-p) over the windows o that hold q",
    manual=lp_pool2d,
    native=F.lp_pool2d,
    samples=_samples,
    refused=_refused,
    modules={LPPool2d: _modules},
    bench=_bench,
)
LP_POOL3D = Spec(
    name="lp_pool3d",
    formula="y_o = (sum_q x_q^p)^(1/p) over the window of o",
    gradient="dx_q = x_q^(p-1) sum of dy_o y_o^(1-p) over the windows o that hold q",
    manual=lp_pool3d,
    native=F.lp_pool3d,
    samples=_samples_3d,
    modules={LPPool3d: _modules_3d},
)
