r"""Unfold and fold: an image as its overlapping patches, and patches added up to an image.

Indices: ``c`` channel, ``k`` place in a patch, ``p`` patch, ``q`` place of the image. With stride
s, dilation d and padding e, place k of patch p is place ``p s + k d - e`` of the image.

Forward::

    unfold   y_(ck)p = x_c(ps+kd-e)                              (N, C K, P)
    fold     y_cq    = sum_pk x_(ck)p   over p s + k d - e = q   (N, C, Q, Q)

Backward. Unfold copies a place into every patch that sees it, so blame is added up over the
copies, which is fold; fold adds copies up, so each gets the blame of the sum, which is unfold::

    unfold   dL/dx_cq    = sum_pk dL/dy_(ck)p   over p s + k d - e = q
    fold     dL/dx_(ck)p = dL/dy_c(ps+kd-e)

Each is the transpose of the other, and neither is its inverse: where patches overlap, fold of
unfold multiplies a place by the number of patches that see it.

Chellapilla, Puri & Simard (2006), "High Performance Convolutional Neural Networks for Document
Processing", section 3: convolution as one matrix product over unfolded patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
Pair = int | tuple[int, ...]


class UnfoldFunction(Function):
    """``x``: (N, C, H, W) or (C, H, W); ``how``: kernel, dilation, padding, stride."""

    @staticmethod
    def forward(x: Tensor, *how: Pair) -> Tensor:
        return F.unfold(x, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.how = inputs
        ctx.size = x.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return F.fold(grad_y, ctx.size, *ctx.how), *(None,) * 4


class FoldFunction(Function):
    """``x``: (N, C K, P) or (C K, P); ``how``: kernel, dilation, padding, stride."""

    @staticmethod
    def forward(x: Tensor, size: Pair, *how: Pair) -> Tensor:
        return F.fold(x, size, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, *ctx.how = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return F.unfold(grad_y, *ctx.how), *(None,) * 5


def unfold(
    input: Tensor, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
) -> Tensor:
    """Every patch of an image as a column; as ``torch.nn.functional.unfold``.

    Args:
        input: (N, C, H, W) or (C, H, W)
        kernel_size: of a patch, along both axes or one number for both
        dilation: pixels from one place of a patch to the next
        padding: pixels of zeros on each side
        stride: pixels from one patch to the next

    Returns:
        (N, C times places in a patch, patches), in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    return UnfoldFunction.apply(input, kernel_size, dilation, padding, stride)


def fold(
    input: Tensor,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair = 1,
    padding: Pair = 0,
    stride: Pair = 1,
) -> Tensor:
    """Patches added up to an image; as ``torch.nn.functional.fold``.

    Args:
        input: (N, C times places in a patch, patches), or without N
        output_size: of the image
        kernel_size: of a patch, along both axes or one number for both
        dilation: pixels from one place of a patch to the next
        padding: pixels around the image that are dropped
        stride: pixels from one patch to the next

    Returns:
        (N, C, *output_size), in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where sizes do not fit.
    """
    return FoldFunction.apply(input, output_size, kernel_size, dilation, padding, stride)


class Unfold(torch.nn.Unfold):
    """``torch.nn.Unfold`` whose gradient is :class:`UnfoldFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C K, P)."""
        return unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(torch.nn.Fold):
    """``torch.nn.Fold`` whose gradient is :class:`FoldFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C K, P) to (N, C, *output_size)."""
        how = self.kernel_size, self.dilation, self.padding, self.stride
        return fold(input, self.output_size, *how)


def _samples_unfold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5, 4), 2)
    yield sample(draw(2, 3, 5, 6), (3, 2), (1, 2), (1, 0), (2, 1), label="all numbers")
    yield sample(draw(3, 5, 4), 2, stride=2, label="one example")
    yield sample(draw(0, 3, 5, 4), 2, label="no examples")


def _samples_fold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 12, 12), (5, 4), 2)
    yield sample(draw(2, 12, 12), (5, 6), (3, 2), (1, 2), (1, 0), (2, 1), label="all numbers")
    yield sample(draw(12, 4), (5, 4), 2, stride=2, label="one example")
    yield sample(draw(0, 12, 12), (5, 4), 2, label="no examples")


def _refused_unfold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5, 4), 6, label="a patch larger than the image")
    yield sample(draw(5, 4), 2, label="no channels")


def _refused_fold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 12, 11), (5, 4), 2, label="patches missing")
    yield sample(draw(2, 13, 12), (5, 4), 2, label="a patch cut short")


def _modules_unfold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5, 4), 2, padding=1, stride=2)


def _modules_fold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 12, 12), (5, 4), 2)


def _bench_unfold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 4, 8, 8), 3, 1, 1)
    yield sample(draw(8, 16, 28, 28), 3, 1, 1)


def _bench_fold(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 36, 64), 8, 3, 1, 1)
    yield sample(draw(8, 144, 784), 28, 3, 1, 1)


UNFOLD = Spec(
    name="unfold",
    formula="y_(ck)p = x_c(ps+kd-e)",
    gradient="dx = fold(dy)",
    manual=unfold,
    native=F.unfold,
    samples=_samples_unfold,
    refused=_refused_unfold,
    modules={Unfold: _modules_unfold},
    bench=_bench_unfold,
)
FOLD = Spec(
    name="fold",
    formula="y_cq = sum_pk x_(ck)p over p s + k d - e = q",
    gradient="dx = unfold(dy)",
    manual=fold,
    native=F.fold,
    samples=_samples_fold,
    refused=_refused_fold,
    modules={Fold: _modules_fold},
    bench=_bench_fold,
)
