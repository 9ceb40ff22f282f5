r"""Max pooling, 1-D to 3-D: of each window only the largest number goes on.

Indices: ``p`` place of the output, ``q`` place of the input; one, two or three numbers each. The
window of p begins at ``p s - e`` (stride s, padding e) and has a place every d (dilation).

Forward::

    q_p = argmax of x_q over the window of p         an index, within the plane of a channel
    y_p = x_(q_p)

Backward: y_p is a copy of one input, and that one is blamed for it. The others could have been a
little larger or smaller and nothing would have changed::

    dL/dx_q = sum_p dL/dy_p   over p with q_p = q    the shape of x

Where windows overlap, one input can be the largest of several: the sum. Of equal numbers the first
is taken, and a NaN counts as the largest, as PyTorch has it. The index is a constant for whoever
differentiates again: pooling is piecewise linear.

Riesenhuber & Poggio (1999), "Hierarchical models of object recognition in cortex"; Zhou &
Chellappa (1988), "Computation of optical flow using a neural network".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_POOL: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: torch.max_pool1d_with_indices,
    2: torch._C._nn.max_pool2d_with_indices,
    3: torch._C._nn.max_pool3d_with_indices,
}


class SelectionFunction(Function):
    """``y_p = x_(q_p)``: a subclass makes (y, indices) of ``x`` and other arguments.

    The second argument, ``dims``, is the number of spatial axes, at the end; ``indices`` has the
    shape of ``y`` and counts within them, row after row.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims, *others = inputs
        _, indices = output
        ctx.spatial = x.shape[-ctx.dims :]
        ctx.others = (None,) * (1 + len(others))
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(indices)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, *ctx.others
        (indices,) = ctx.saved_tensors
        return scatter(grad_y, indices, ctx.spatial), *ctx.others


def scatter(grad_y: Tensor, indices: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Add each number of ``grad_y`` to the place that its index names, of axes ``spatial``."""
    dims = len(spatial)
    leading = grad_y.shape[: grad_y.dim() - dims]
    grad_x = grad_y.new_zeros(*leading, math.prod(spatial))
    add = grad_x.scatter_add if is_recorded() else grad_x.scatter_add_
    return add(-1, indices.flatten(-dims), grad_y.flatten(-dims)).unflatten(-1, spatial)


class MaxPoolFunction(SelectionFunction):
    """``x``: (N, C, Q...) or (C, Q...), with ``dims`` axes Q; the rest as torch takes it."""

    @staticmethod
    def forward(
        x: Tensor, dims: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
    ) -> tuple[Tensor, Tensor]:
        return _POOL[dims](x, kernel, stride, padding, dilation, ceil)


def max_pool1d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Max pooling along a line; as ``torch.nn.functional.max_pool1d``, see :func:`max_pool2d`."""
    stride = () if stride is None else stride
    pooled = MaxPoolFunction.apply(input, 1, kernel_size, stride, padding, dilation, ceil_mode)
    return pooled if return_indices else pooled[0]


def max_pool2d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Max pooling with its gradient by hand; as ``torch.nn.functional.max_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        kernel_size: places in a window, along each axis or one number for all
        stride: places from one window to the next; ``kernel_size`` by default
        padding: places of -inf on each side, at most half a window
        dilation: places from one number of a window to the next
        ceil_mode: whether a window may reach beyond the end
        return_indices: return also where each number of the output was taken from

    Returns:
        (N, C, H', W') in the dtype of ``input``; with ``return_indices`` also the indices, int64,
        counted within the plane H x W.

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    stride = () if stride is None else stride
    pooled = MaxPoolFunction.apply(input, 2, kernel_size, stride, padding, dilation, ceil_mode)
    return pooled if return_indices else pooled[0]


def max_pool3d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Max pooling in space; as ``torch.nn.functional.max_pool3d``; see :func:`max_pool2d`."""
    stride = () if stride is None else stride
    how = kernel_size, stride, padding, dilation, ceil_mode
    return MaxPoolFunction.apply(input, 3, *how) if return_indices else _largest_3d(input, *how)


@under_autocast("float32", devices=("cpu",))
def _largest_3d(x: Tensor, *how: Any) -> Tensor:
    """Three axes without the indices, which torch's autocast has on a list of its own."""
    return MaxPoolFunction.apply(x, 3, *how)[0]


def _with_indices(pool: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the form of ``pool`` that always returns the indices."""

    def pool_with_indices(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        named = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        return pool(**named | {"return_indices": True})

    return pool_with_indices


_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")


class MaxPool1d(torch.nn.MaxPool1d):
    """``torch.nn.MaxPool1d`` whose gradient is :class:`MaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, W) to (N, C, W')."""
        return max_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class MaxPool2d(torch.nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` whose gradient is :class:`MaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class MaxPool3d(torch.nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` whose gradient is :class:`MaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, D, H, W) to (N, C, D', H', W')."""
        return max_pool3d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 2)
    yield sample(draw(2, 3, 8, 9), (3, 2), (2, 1), (1, 0), (2, 3), label="all numbers")
    yield sample(draw(2, 3, 7, 8), 3, 2, 1, ceil_mode=True, label="overlap, beyond the end")
    yield sample(draw(3, 6, 7), 2, 2, return_indices=True, label="one example, indices")
    ties = draw.values(1, 1, 0, 1, 1, 0, 0, 1, 1, -1, -1, -1).unflatten(0, (1, 3, 4)).detach()
    yield sample(ties.requires_grad_(), 2, 1, label="ties", smooth=False)
    yield sample(draw(0, 3, 6, 7), 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 2)
    yield sample(draw(3, 9), 3, 2, 1, 2, True, True, label="all numbers")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2)
    yield sample(draw(2, 5, 6, 7), (2, 3, 2), 2, 1, (1, 2, 1), True, True, label="all numbers")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 4, 2, 3, label="more padding than half a window")
    yield sample(draw(2, 3, 6, 7), 8, label="a window larger than the image")
    yield sample(draw(6, 7), 2, label="no channels")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), 3, 2, 1, ceil_mode=True)
    yield sample(draw(2, 3, 6, 7), 2, dilation=2, return_indices=True)


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


MAX_POOL1D = Spec(
    name="max_pool1d",
    formula="y_p = max of x_q over the window of p",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=max_pool1d,
    native=F.max_pool1d,
    overrides=(torch.max_pool1d,),
    inplace={
        F.max_pool1d_with_indices: _with_indices(max_pool1d),
        torch.max_pool1d_with_indices: _with_indices(max_pool1d),
    },
    samples=_samples_1d,
    modules={MaxPool1d: _modules_1d},
    bench=_bench_1d,
)
MAX_POOL2D = Spec(
    name="max_pool2d",
    formula="y_p = max of x_q over the window of p",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=max_pool2d,
    native=F.max_pool2d,
    overrides=(torch.max_pool2d,),
    inplace={
        F.max_pool2d_with_indices: _with_indices(max_pool2d),
        torch._C._nn.max_pool2d_with_indices: _with_indices(max_pool2d),
    },
    samples=_samples,
    refused=_refused,
    modules={MaxPool2d: _modules},
    bench=_bench,
)
MAX_POOL3D = Spec(
    name="max_pool3d",
    formula="y_p = max of x_q over the window of p",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=max_pool3d,
    native=F.max_pool3d,
    overrides=(torch.max_pool3d,),
    inplace={
        F.max_pool3d_with_indices: _with_indices(max_pool3d),
        torch._C._nn.max_pool3d_with_indices: _with_indices(max_pool3d),
    },
    samples=_samples_3d,
    modules={MaxPool3d: _modules_3d},
    bench=_bench_3d,
)
