r"""Shuffles of pixels and channels: numbers change places, and blame changes back.

Indices: ``c`` channel, ``h`` and ``w`` place, ``i`` and ``j`` place within an r x r block; a bar
stands between indices that are counted as one, as in ``(c|i|j)``.

Forward::

    pixel_shuffle     y_c(h|i)(w|j) = x_(c|i|j)hw         (C r r, H, W) to (C, H r, W r)
    pixel_unshuffle   y_(c|i|j)hw   = x_c(h|i)(w|j)       (C, H r, W r) to (C r r, H, W)
    channel_shuffle   y_(c|g)hw     = x_(g|c)hw           G groups of C channels

Backward. A permutation is undone by its inverse, and its inverse is its transpose::

    pixel_shuffle     dL/dx_(c|i|j)hw   = dL/dy_c(h|i)(w|j)         pixel_unshuffle(dL/dy)
    pixel_unshuffle   dL/dx_c(h|i)(w|j) = dL/dy_(c|i|j)hw           pixel_shuffle(dL/dy)
    channel_shuffle   dL/dx_(g|c)hw     = dL/dy_(c|g)hw             channel_shuffle, C groups for G

Shi et al. (2016), "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", section 2.2; Zhang et al. (2018), "ShuffleNet", section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class PixelShuffleFunction(Function):
    """``x``: (..., C r r, H, W)."""

    @staticmethod
    def forward(x: Tensor, factor: int) -> Tensor:
        return F.pixel_shuffle(x, factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, r = inputs
        ctx.r, ctx.size = r, x.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (height, width), r = ctx.size, ctx.r
        blocks = grad_y.unflatten(-1, (width, r)).unflatten(-3, (height, r))  # (C, H, i, W, j)
        return blocks.movedim((-3, -1), (-4, -3)).flatten(-5, -3), None


class PixelUnshuffleFunction(Function):
    """``x``: (..., C, H r, W r)."""

    @staticmethod
    def forward(x: Tensor, factor: int) -> Tensor:
        return F.pixel_unshuffle(x, factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, r = inputs
        ctx.r, ctx.channels = r, x.shape[-3]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        blocks = grad_y.unflatten(-3, (ctx.channels, ctx.r, ctx.r))  # (C, i, j, H, W)
        return blocks.movedim((-4, -3), (-3, -1)).flatten(-2).flatten(-3, -2), None


class ChannelShuffleFunction(Function):
    """``x``: (N, G C, ...)."""

    @staticmethod
    def forward(x: Tensor, groups: int) -> Tensor:
        return F.channel_shuffle(x, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, groups = inputs
        ctx.channels = x.shape[1] // groups

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return F.channel_shuffle(grad_y, ctx.channels), None


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels become pixels; as ``torch.nn.functional.pixel_shuffle``.

    Args:
        input: (..., C r r, H, W)
        upscale_factor: r

    Returns:
        (..., C, H r, W r), in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where r x r does not divide the channels.
    """
    return PixelShuffleFunction.apply(input, upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels become channels; as ``torch.nn.functional.pixel_unshuffle``.

    Args:
        input: (..., C, H r, W r)
        downscale_factor: r

    Returns:
        (..., C r r, H, W), in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where r does not divide height and width.
    """
    return PixelUnshuffleFunction.apply(input, downscale_factor)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of several groups, dealt like cards; as ``torch.nn.functional.channel_shuffle``.

    Args:
        input: (N, C, ...)
        groups: into how many the channels are cut; one of each comes first, and so on

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where ``groups`` does not divide the channels.
    """
    return ChannelShuffleFunction.apply(input, groups)


class PixelShuffle(torch.nn.PixelShuffle):
    """``torch.nn.PixelShuffle`` whose gradient is :class:`PixelShuffleFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., C r r, H, W) to (..., C, H r, W r)."""
        return pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(torch.nn.PixelUnshuffle):
    """``torch.nn.PixelUnshuffle`` whose gradient is :class:`PixelUnshuffleFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., C, H r, W r) to (..., C r r, H, W)."""
        return pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(torch.nn.ChannelShuffle):
    """``torch.nn.ChannelShuffle`` whose gradient is :class:`ChannelShuffleFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, ...) to the same shape."""
        return channel_shuffle(input, self.groups)


def _samples_shuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 8, 3, 2), 2)
    yield sample(draw(9, 3, 2), 3, label="one example")
    yield sample(draw(2, 3, 4, 2, 1), 2, label="five axes")


def _samples_unshuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 6), 2)
    yield sample(draw(2, 6, 3), 3, label="one example")


def _samples_channels(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 6, 3, 4), 2)
    yield sample(draw(2, 6, 5), 3, label="a line")
    yield sample(draw(2, 6, 2, 1, 3), 3, label="space")


def _refused_shuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 6, 3, 2), 2, label="channels are left over")
    yield sample(draw(8, 3), 2, label="no plane")
    yield sample(draw(2, 8, 3, 2), -1, label="a negative factor")


def _refused_unshuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5, 6), 2, label="rows are left over")


def _refused_channels(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 6, 3, 4), 4, label="channels are left over")
    yield sample(draw(2, 6), 2, label="no places")


def _modules_shuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 8, 3, 2), 2)


def _modules_unshuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 6), 2)


def _modules_channels(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 6, 3, 4), 2)


def _bench_shuffle(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 2)
    yield sample(draw(32, 64, 28, 28), 2)


def _bench_channels(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), 4)
    yield sample(draw(32, 64, 28, 28), 4)


PIXEL_SHUFFLE = Spec(
    name="pixel_shuffle",
    formula="y_c(h|i)(w|j) = x_(c|i|j)hw",
    gradient="dx = pixel_unshuffle(dy)",
    manual=pixel_shuffle,
    native=F.pixel_shuffle,
    samples=_samples_shuffle,
    refused=_refused_shuffle,
    modules={PixelShuffle: _modules_shuffle},
    bench=_bench_shuffle,
)
PIXEL_UNSHUFFLE = Spec(
    name="pixel_unshuffle",
    formula="y_(c|i|j)hw = x_c(h|i)(w|j)",
    gradient="dx = pixel_shuffle(dy)",
    manual=pixel_unshuffle,
    native=F.pixel_unshuffle,
    samples=_samples_unshuffle,
    refused=_refused_unshuffle,
    modules={PixelUnshuffle: _modules_unshuffle},
    bench=_bench_shuffle,
)
CHANNEL_SHUFFLE = Spec(
    name="channel_shuffle",
    formula="y_(c|g)hw = x_(g|c)hw",
    gradient="dx = channel_shuffle(dy) with C groups for G",
    manual=channel_shuffle,
    native=F.channel_shuffle,
    overrides=(F.native_channel_shuffle,),
    samples=_samples_channels,
    refused=_refused_channels,
    modules={ChannelShuffle: _modules_channels},
    bench=_bench_channels,
)
