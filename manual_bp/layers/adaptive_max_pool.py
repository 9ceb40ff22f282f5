r"""Adaptive max pooling, 1-D to 3-D: as many maxima as one asks for.

Indices: ``p`` of ``P`` places of the output, ``q`` of ``W`` places of the input, along an axis.

Forward, over P windows that are as equal as they can be::

    window of p:  floor(p W / P) <= q < ceil((p + 1) W / P)
    q_p = argmax of x_q over the window of p
    y_p = x_(q_p)

Backward, as in max pooling::

    dL/dx_q = sum_p dL/dy_p   over p with q_p = q    the shape of x
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.layers.max_pool import SelectionFunction
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_POOL: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {
    1: F.adaptive_max_pool1d_with_indices,
    2: F.adaptive_max_pool2d_with_indices,
    3: F.adaptive_max_pool3d_with_indices,
}
Sizes = int | tuple[int | None, ...] | None


class AdaptiveMaxPoolFunction(SelectionFunction):
    """``x``: (N, C, W...) or (C, W...), with ``dims`` axes W."""

    @staticmethod
    def forward(x: Tensor, dims: int, output_size: Any) -> tuple[Tensor, Tensor]:
        return _POOL[dims](x, output_size)


def adaptive_max_pool1d(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Adaptive max pooling along a line; see :func:`adaptive_max_pool2d`."""
    pooled = AdaptiveMaxPoolFunction.apply(input, 1, output_size)
    return pooled if return_indices else pooled[0]


def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """``adaptive_max_pool1d`` that always returns the indices."""
    return AdaptiveMaxPoolFunction.apply(input, 1, output_size)


def adaptive_max_pool2d(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """As many maxima as ``output_size``; as ``torch.nn.functional.adaptive_max_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        output_size: of H' and W', or one number for both; None keeps the size of an axis
        return_indices: return also where each number of the output was taken from

    Returns:
        (N, C, H', W') in the dtype of ``input``; with ``return_indices`` also the indices, int64,
        counted within the plane H x W.

    Raises:
        RuntimeError: From torch, for an ``input`` with other axes.
    """
    pooled = AdaptiveMaxPoolFunction.apply(input, 2, output_size)
    return pooled if return_indices else pooled[0]


def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """``adaptive_max_pool2d`` that always returns the indices."""
    return AdaptiveMaxPoolFunction.apply(input, 2, output_size)


def adaptive_max_pool3d(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Adaptive max pooling in space; see :func:`adaptive_max_pool2d`."""
    pooled = AdaptiveMaxPoolFunction.apply(input, 3, output_size)
    return pooled if return_indices else pooled[0]


def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: Sizes, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """``adaptive_max_pool3d`` that always returns the indices."""
    return AdaptiveMaxPoolFunction.apply(input, 3, output_size)


class AdaptiveMaxPool1d(torch.nn.AdaptiveMaxPool1d):
    """``torch.nn.AdaptiveMaxPool1d`` whose gradient is :class:`AdaptiveMaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, L) to (N, C, L')."""
        return adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(torch.nn.AdaptiveMaxPool2d):
    """``torch.nn.AdaptiveMaxPool2d`` whose gradient is :class:`AdaptiveMaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(torch.nn.AdaptiveMaxPool3d):
    """``torch.nn.AdaptiveMaxPool3d`` whose gradient is :class:`AdaptiveMaxPoolFunction`'s."""

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, D, H, W) to (N, C, D', H', W')."""
        return adaptive_max_pool3d(input, self.output_size, self.return_indices)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 8), (3, 2))
    yield sample(draw(2, 3, 7, 5), (3, None), True, label="shared places, indices")
    yield sample(draw(3, 4, 5), 1, label="one example, one maximum")
    yield sample(draw(0, 3, 6, 7), 2, label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 3)
    yield sample(draw(3, 6), 4, return_indices=True, label="one example, indices")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), 2)
    yield sample(draw(2, 4, 5, 6), (None, 3, 1), label="one example")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(6, 7), 2, label="no channels")
    yield sample(draw(2, 3, 6, 7), (2, 2, 2), label="a size too many")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 6, 7), (3, None), True)


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7), 3)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 5, 6), (2, 3, 2))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 4)
    yield sample(draw(32, 64, 28, 28), 7)


def _bench_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 64), 4)
    yield sample(draw(32, 64, 1024), 4)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 8, 8, 8), 2)
    yield sample(draw(4, 16, 16, 32, 32), 4)


ADAPTIVE_MAX_POOL1D = Spec(
    name="adaptive_max_pool1d",
    formula="y_p = max of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=adaptive_max_pool1d,
    native=F.adaptive_max_pool1d,
    inplace={
        F.adaptive_max_pool1d_with_indices: adaptive_max_pool1d_with_indices,
        torch.adaptive_max_pool1d: adaptive_max_pool1d_with_indices,
    },
    samples=_samples_1d,
    modules={AdaptiveMaxPool1d: _modules_1d},
    bench=_bench_1d,
)
ADAPTIVE_MAX_POOL2D = Spec(
    name="adaptive_max_pool2d",
    formula="y_p = max of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=adaptive_max_pool2d,
    native=F.adaptive_max_pool2d,
    inplace={
        F.adaptive_max_pool2d_with_indices: adaptive_max_pool2d_with_indices,
        torch._C._nn.adaptive_max_pool2d: adaptive_max_pool2d_with_indices,
    },
    samples=_samples,
    refused=_refused,
    modules={AdaptiveMaxPool2d: _modules},
    bench=_bench,
)
ADAPTIVE_MAX_POOL3D = Spec(
    name="adaptive_max_pool3d",
    formula="y_p = max of x_q over the p-th of P windows",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=adaptive_max_pool3d,
    native=F.adaptive_max_pool3d,
    inplace={
        F.adaptive_max_pool3d_with_indices: adaptive_max_pool3d_with_indices,
        torch._C._nn.adaptive_max_pool3d: adaptive_max_pool3d_with_indices,
    },
    samples=_samples_3d,
    modules={AdaptiveMaxPool3d: _modules_3d},
    bench=_bench_3d,
)
