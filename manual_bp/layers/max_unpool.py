r"""Max unpooling, 1-D to 3-D: numbers go back to where max pooling found them.

Indices: ``p`` place of the input, ``q`` place of the output, ``q_p`` the index of p within the
plane of a channel, as max pooling returns it.

Forward and backward::

    y_(q_p) = x_p,   0 elsewhere
    dL/dx_p = dL/dy_(q_p)                the shape of x

It is max pooling's backward as a forward, and has the lookup of its forward for a backward. Where
two p have one index, as PyTorch has it, one of them is kept and both get its gradient.

Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_UNPOOL: dict[int, Callable[..., Tensor]] = {
    1: F.max_unpool1d,
    2: F.max_unpool2d,
    3: F.max_unpool3d,
}
Sizes = int | tuple[int, ...]


class MaxUnpoolFunction(Function):
    """``x`` and ``indices``: (N, C, P...) or (C, P...), with ``dims`` axes P."""

    generate_vmap_rule = False  # torch has none for unpooling either

    @staticmethod
    def forward(
        x: Tensor, indices: Tensor, dims: int, kernel: Any, stride: Any, padding: Any, size: Any
    ) -> Tensor:
        return _UNPOOL[dims](x, indices, kernel, stride, padding, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, indices, ctx.dims, *_ = inputs
        ctx.save_for_backward(indices)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (indices,) = ctx.saved_tensors
        looked_up = grad_y.flatten(-ctx.dims).gather(-1, indices.flatten(-ctx.dims))
        return looked_up.view(indices.shape), *(None,) * 6


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Any = None,
) -> Tensor:
    """Max unpooling along a line; see :func:`max_unpool2d`."""
    return MaxUnpoolFunction.apply(input, indices, 1, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Any = None,
) -> Tensor:
    """Max unpooling with its gradient by hand; as ``torch.nn.functional.max_unpool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        indices: the shape of ``input``, int64, within the plane H' x W'
        kernel_size: of the max pooling that made the indices
        stride: of it; ``kernel_size`` by default
        padding: of it
        output_size: H' and W', where several sizes are pooled to H and W

    Returns:
        (N, C, H', W') in the dtype of ``input``.

    Raises:
        ValueError: For an ``output_size`` that is not pooled to H and W.
        RuntimeError: From torch, for an index outside the plane.
    """
    return MaxUnpoolFunction.apply(input, indices, 2, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Any = None,
) -> Tensor:
    """Max unpooling in space; see :func:`max_unpool2d`."""
    return MaxUnpoolFunction.apply(input, indices, 3, kernel_size, stride, padding, output_size)


class MaxUnpool1d(torch.nn.MaxUnpool1d):
    """``torch.nn.MaxUnpool1d`` whose gradient is :class:`MaxUnpoolFunction`'s."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        """Put ``input`` where ``indices`` say."""
        return max_unpool1d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool2d(torch.nn.MaxUnpool2d):
    """``torch.nn.MaxUnpool2d`` whose gradient is :class:`MaxUnpoolFunction`'s."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        """Put ``input`` where ``indices`` say."""
        return max_unpool2d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool3d(torch.nn.MaxUnpool3d):
    """``torch.nn.MaxUnpool3d`` whose gradient is :class:`MaxUnpoolFunction`'s."""

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        """Put ``input`` where ``indices`` say."""
        return max_unpool3d(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


def _indices(x: Tensor, dims: int, *numbers: Any) -> Tensor:
    """Of the max pooling of ``x``."""
    return getattr(F, f"max_pool{dims}d_with_indices")(x.detach(), *numbers)[1]


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 3, 4), _indices(draw(2, 3, 6, 8), 2, 2), 2)
    indices = _indices(draw(3, 6, 7), 2, (2, 3))
    yield sample(draw(3, 3, 2), indices, (2, 3), None, 0, (6, 7), label="one example, a size")
    yield sample(draw(2, 3, 4, 5), _indices(draw(2, 3, 6, 8), 2, 2, 2, 1), 2, 2, 1, label="padded")
    yield sample(draw(0, 3, 3, 4), _indices(draw(0, 3, 6, 8), 2, 2), 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4), _indices(draw(2, 3, 8), 1, 2), 2)


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 2, 3, 2), _indices(draw(2, 2, 4, 6, 4), 3, 2), 2)


def _refused(draw: Draw) -> Iterator[Sample]:
    indices = _indices(draw(2, 3, 6, 8), 2, 2)
    yield sample(draw(2, 3, 3, 4), indices, 2, None, 0, (9, 8), label="a size too large")
    yield sample(draw(2, 3, 3, 4), indices + 9, 2, label="an index outside")
    yield sample(draw(2, 3, 3, 4), indices[0], 2, label="shapes differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(2, 3, 3, 4), _indices(draw(2, 3, 6, 8), 2, 2), [7, 8]), 2)


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(2, 3, 4), _indices(draw(2, 3, 8), 1, 2)), 2)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(2, 2, 2, 3, 2), _indices(draw(2, 2, 4, 6, 4), 3, 2)), 2)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 4, 4), _indices(draw(32, 16, 8, 8), 2, 2), 2, label="small")
    yield sample(draw(32, 64, 14, 14), _indices(draw(32, 64, 28, 28), 2, 2), 2, label="larger")


MAX_UNPOOL1D = Spec(
    name="max_unpool1d",
    formula="y_(q_p) = x_p, 0 elsewhere",
    gradient="dx_p = dy_(q_p)",
    manual=max_unpool1d,
    native=F.max_unpool1d,
    samples=_samples_1d,
    modules={MaxUnpool1d: _modules_1d},
    vmap=False,
)
MAX_UNPOOL2D = Spec(
    name="max_unpool2d",
    formula="y_(q_p) = x_p, 0 elsewhere",
    gradient="dx_p = dy_(q_p)",
    manual=max_unpool2d,
    native=F.max_unpool2d,
    samples=_samples,
    refused=_refused,
    modules={MaxUnpool2d: _modules},
    bench=_bench,
    vmap=False,
)
MAX_UNPOOL3D = Spec(
    name="max_unpool3d",
    formula="y_(q_p) = x_p, 0 elsewhere",
    gradient="dx_p = dy_(q_p)",
    manual=max_unpool3d,
    native=F.max_unpool3d,
    samples=_samples_3d,
    modules={MaxUnpool3d: _modules_3d},
    vmap=False,
)
