r"""Fractional max pooling, 2-D and 3-D: windows at random places, for ratios between 1 and 2.

Indices: ``p`` of ``P`` places of the output, ``q`` of ``W`` places of the input, along an axis; k
places in a window.

Forward, with one random u in [0, 1) for each example, channel and axis::

    alpha = (W - k) / (P - 1)
    begin_p = floor((p + u) alpha) - floor(u alpha),  begin_(P-1) = W - k
    q_p = argmax of x_q over begin_p <= q < begin_p + k
    y_p = x_(q_p)

Backward, as in max pooling; the draw is a constant::

    dL/dx_q = sum_p dL/dy_p   over p with q_p = q    the shape of x

Graham (2014), "Fractional Max-Pooling", section 2; the windows are its pseudorandom, overlapping
ones.
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
    2: F.fractional_max_pool2d_with_indices,
    3: F.fractional_max_pool3d_with_indices,
}


class FractionalMaxPoolFunction(SelectionFunction):
    """``x``: (N, C, W...) or (C, W...), with ``dims`` axes W; the rest as torch takes it."""

    # Native vmap refuses as well: where the numbers come from would depend on the batch.
    generate_vmap_rule = False

    @staticmethod
    def forward(
        x: Tensor, dims: int, kernel: Any, size: Any, ratio: Any, samples: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return _POOL[dims](x, kernel, size, ratio, True, samples)


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    output_size: int | tuple[int, ...] | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``fractional_max_pool2d`` that always returns the indices."""
    return FractionalMaxPoolFunction.apply(
        input, 2, kernel_size, output_size, output_ratio, _random_samples
    )


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    output_size: int | tuple[int, ...] | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Max pooling over random windows; as ``torch.nn.functional.fractional_max_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        kernel_size: places in a window, along each axis or one number for both
        output_size: H' and W', or one number for both
        output_ratio: H' / H and W' / W instead
        return_indices: return also where each number of the output was taken from
        _random_samples: (N, C, 2) in [0, 1), instead of drawing them

    Returns:
        (N, C, H', W') in the dtype of ``input``; with ``return_indices`` also the indices, int64,
        counted within the plane H x W.

    Raises:
        ValueError: Without a size and a ratio.
        RuntimeError: From torch, where sizes do not fit.
    """
    pooled = fractional_max_pool2d_with_indices(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )
    return pooled if return_indices else pooled[0]


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    output_size: int | tuple[int, ...] | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``fractional_max_pool3d`` that always returns the indices."""
    return FractionalMaxPoolFunction.apply(
        input, 3, kernel_size, output_size, output_ratio, _random_samples
    )


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: int | tuple[int, ...],
    output_size: int | tuple[int, ...] | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Max pooling over random windows in space; see :func:`fractional_max_pool2d`."""
    pooled = fractional_max_pool3d_with_indices(
        input, kernel_size, output_size, output_ratio, True, _random_samples
    )
    return pooled if return_indices else pooled[0]


class FractionalMaxPool2d(torch.nn.FractionalMaxPool2d):
    """``torch.nn.FractionalMaxPool2d`` by hand: :class:`FractionalMaxPoolFunction`."""

    _random_samples: Tensor | None

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool over windows drawn anew at each call."""
        return fractional_max_pool2d(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
        )


class FractionalMaxPool3d(torch.nn.FractionalMaxPool3d):
    """``torch.nn.FractionalMaxPool3d`` by hand: :class:`FractionalMaxPoolFunction`."""

    _random_samples: Tensor | None

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool over windows drawn anew at each call."""
        return fractional_max_pool3d(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
        )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7, 8), 2, 4)
    yield sample(draw(2, 3, 7, 8), (3, 2), (4, 5), return_indices=True, label="indices")
    yield sample(draw(3, 7, 8), 2, None, (0.6, 0.5), label="one example, a ratio")
    samples = draw.uniform(2, 3, 2)
    yield sample(draw(2, 3, 7, 8), 2, 4, _random_samples=samples, label="samples given")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 5, 6, 7), 2, 3)
    yield sample(draw(2, 5, 6, 7), (2, 3, 2), None, (0.6, 0.5, 0.6), True, label="a ratio")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7, 8), 2, label="no size")
    yield sample(draw(2, 3, 7, 8), 5, 6, label="a window too large")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 7, 8), (3, 2), output_ratio=(0.5, 0.6), return_indices=True)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 5, 6, 7), 2, output_size=3)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 2, 5)
    yield sample(draw(32, 64, 28, 28), 2, 20)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 8, 8, 8), 2, 5)
    yield sample(draw(4, 16, 16, 16, 16), 2, 11)


FRACTIONAL_MAX_POOL2D = Spec(
    name="fractional_max_pool2d",
    formula="y_p = max of x_q over the p-th window, at a random place",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=fractional_max_pool2d,
    native=F.fractional_max_pool2d,
    inplace={F.fractional_max_pool2d_with_indices: fractional_max_pool2d_with_indices},
    samples=_samples,
    refused=_refused,
    modules={FractionalMaxPool2d: _modules},
    bench=_bench,
    random=True,
    vmap=False,
)
FRACTIONAL_MAX_POOL3D = Spec(
    name="fractional_max_pool3d",
    formula="y_p = max of x_q over the p-th window, at a random place",
    gradient="dx_q = sum of dy_p over p whose largest is q",
    manual=fractional_max_pool3d,
    native=F.fractional_max_pool3d,
    inplace={F.fractional_max_pool3d_with_indices: fractional_max_pool3d_with_indices},
    samples=_samples_3d,
    modules={FractionalMaxPool3d: _modules_3d},
    bench=_bench_3d,
    random=True,
    vmap=False,
)
