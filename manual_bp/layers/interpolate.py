r"""Interpolation: an image of another size, by a fixed weighted sum along each axis.

Indices: ``q`` of ``W`` places of the input, ``p`` of ``P`` places of the output, along an axis.

Forward. Each mode (nearest, linear, cubic, with or without a filter against aliasing) says with
which weight place q enters place p; the weights know the sizes and not the image::

    y_p = sum_q A_qp x_q          along each axis by itself: y = A_h^T x A_w for an image

Backward. Whatever the mode, a linear map goes back by its transpose::

    dL/dx_q = sum_p A_qp dL/dy_p          A_h dL/dy A_w^T for an image, the shape of x

The matrix A need not be written down for any mode: its row q is what interpolation makes of an
image that is 1 at q and 0 elsewhere, so A is the interpolation of the identity matrix. Where each
input is repeated a whole number of times the sum is that of its copies.

Keys (1981), "Cubic convolution interpolation for digital image processing", has the cubic weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.layers.adaptive_avg_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional
_AREA = {3: adaptive_avg_pool1d, 4: adaptive_avg_pool2d, 5: adaptive_avg_pool3d}


class InterpolateFunction(Function):
    """``x``: (N, C, W...), one to three axes W; the rest as torch takes it."""

    @staticmethod
    def forward(x: Tensor, *how: Any) -> Tensor:
        return F.interpolate(x, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, scales, ctx.mode, ctx.align_corners, recompute, ctx.antialias = inputs
        ctx.sizes = x.shape[2:]
        given = scales if isinstance(scales, (tuple, list)) else [scales] * len(ctx.sizes)
        ctx.scales = [None] * len(ctx.sizes) if recompute else given

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (grad_x,) = widened(grad_y)
        for i, (size, scale) in enumerate(zip(ctx.sizes, ctx.scales, strict=True)):
            axis, places = i - len(ctx.sizes), grad_y.shape[2 + i]
            times = places // size
            # Powers of two, for which q = p / times is exact in floating point.
            copied = ctx.mode.startswith("nearest") and times in (1, 2, 4, 8)
            if copied and times * size == places and scale in (None, times):
                first, *others = grad_x.unflatten(axis, (size, times)).unbind(axis)
                grad_x = sum(others, start=first)
                continue
            weights = _weights(ctx, size, places, scale, grad_x)  # (W, P)
            if axis == -1:
                grad_x = grad_x @ weights.t()
            else:
                shape = grad_x.shape[axis + 1 :]
                grad_x = (weights @ grad_x.flatten(axis + 1)).unflatten(-1, shape)
        return grad_x.to(grad_y.dtype), *(None,) * 6


def _weights(ctx: Any, size: int, places: int, scale: float | None, like: Tensor) -> Tensor:
    """A, one row for each input place: the interpolation of the identity matrix."""
    impulses = torch.eye(size, dtype=like.dtype, device=like.device)[None]  # (1, W, W)
    if ctx.antialias or ctx.mode in ("bicubic", "lanczos"):  # known for planes alone
        to: Any = (1, places) if scale is None else (1.0, scale)
        impulses, mode = impulses.unsqueeze(2), ctx.mode
    else:
        to = places if scale is None else scale
        mode = "linear" if ctx.mode.endswith("linear") else ctx.mode
    key = "size" if scale is None else "scale_factor"
    how = {"align_corners": ctx.align_corners, "antialias": ctx.antialias, key: to}
    return F.interpolate(impulses, mode=mode, **how).view(size, places)


def interpolate(
    input: Tensor,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize by hand; as ``torch.nn.functional.interpolate``.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        size: of the output, along each axis or one number for all
        scale_factor: how many times larger instead
        mode: "nearest", "nearest-exact", "linear" (3-D), "bilinear", "bicubic", "lanczos" (4-D),
            "trilinear" (5-D) or "area"
        align_corners: whether first and last places lie on each other, or their outer edges
        recompute_scale_factor: whether to use the ratio of the sizes instead of ``scale_factor``
        antialias: whether to filter first when making an image smaller

    Returns:
        (N, C, ...) of the new size, in the dtype of ``input``.

    Raises:
        ValueError, NotImplementedError: From torch, for arguments that do not go together.
    """
    how = size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    if mode == "area" and (to := _area_size(input, *how)) is not None:
        return _AREA[input.dim()](input, to)
    return InterpolateFunction.apply(input, *how)


def _area_size(
    input: Tensor,
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute: bool | None,
    antialias: bool,
) -> Any:
    """The size of the output for the mean over an area; None for what torch refuses."""
    dims, given = input.dim() - 2, scale_factor if size is None else size
    given = given if isinstance(given, (tuple, list)) else [given] * dims
    both = (size is None) == (scale_factor is None) or (recompute and size is not None)
    if both or align_corners is not None or antialias or not 1 <= dims <= 3 or len(given) != dims:
        return None
    if scale_factor is None:
        return given
    return [int(w * s) for w, s in zip(input.shape[2:], given, strict=True)]


class Upsample(torch.nn.Upsample):
    """``torch.nn.Upsample`` whose gradient is :class:`InterpolateFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Resize the axes after the first two."""
        return _upsample(self, input)


class UpsamplingNearest2d(torch.nn.UpsamplingNearest2d):
    """``torch.nn.UpsamplingNearest2d`` whose gradient is :class:`InterpolateFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Repeat pixels."""
        return _upsample(self, input)


class UpsamplingBilinear2d(torch.nn.UpsamplingBilinear2d):
    """``torch.nn.UpsamplingBilinear2d`` whose gradient is :class:`InterpolateFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Interpolate between pixels, corners on corners."""
        return _upsample(self, input)


def _upsample(module: Any, input: Tensor) -> Tensor:
    return interpolate(
        input,
        module.size,
        module.scale_factor,
        module.mode,
        module.align_corners,
        module.recompute_scale_factor,
    )


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), scale_factor=2)
    yield sample(draw(2, 3, 5, 4), (7, 3), label="nearest, any size")
    yield sample(draw(2, 3, 5), scale_factor=1.6, mode="nearest-exact", label="nearest-exact")
    yield sample(draw(2, 3, 5), 8, mode="linear", label="linear")
    yield sample(draw(2, 3, 4, 5), None, (1.7, 0.6), "bilinear", label="bilinear, scales")
    yield sample(draw(2, 3, 4, 5), (7, 3), None, "bilinear", True, label="bilinear, corners")
    yield sample(draw(2, 3, 4, 5), None, 1.7, "bilinear", None, True, label="ratio of sizes")
    yield sample(draw(2, 3, 4, 5), (7, 3), mode="bicubic", label="bicubic")
    yield sample(draw(2, 2, 3, 4, 2), (5, 3, 4), mode="trilinear", label="trilinear")
    yield sample(draw(2, 3, 7, 5), (3, 8), mode="area", label="area")
    yield sample(draw(2, 3, 7, 5), scale_factor=0.6, mode="area", label="area, a scale")
    for mode in ("bilinear", "bicubic", "lanczos"):
        yield sample(draw(2, 3, 7, 9), (3, 4), mode=mode, antialias=True, label=f"{mode} filtered")
    yield sample(draw(0, 3, 4, 5), (7, 3), mode="bilinear", label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), label="no size")
    yield sample(draw(2, 3, 4, 5), 3, 2.0, label="a size and a scale")
    yield sample(draw(2, 3, 4, 5), (3, 2, 2), label="a size too many")
    yield sample(draw(2, 3, 4, 5), 3, mode="linear", label="a mode for a line")
    yield sample(draw(2, 3, 4, 5), 3, align_corners=True, label="corners of nearest")
    yield sample(draw(2, 3, 4, 5), 3, mode="area", align_corners=True, label="corners of an area")
    yield sample(draw(2, 3, 4, 5), (3, 2, 2), mode="area", label="an area's size too many")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), scale_factor=1.5, mode="bicubic")
    yield sample(draw(2, 3, 4), size=7, mode="linear", align_corners=True)


def _modules_2d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), scale_factor=2)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), scale_factor=2, label="nearest 8x8")
    yield sample(draw(32, 64, 14, 14), scale_factor=2, label="nearest 14x14")
    yield sample(draw(32, 16, 8, 8), scale_factor=2, mode="bilinear", label="bilinear 8x8")
    yield sample(draw(32, 64, 14, 14), scale_factor=2, mode="bilinear", label="bilinear 14x14")
    yield sample(draw(2, 3, 224, 224), scale_factor=2, mode="bilinear", label="bilinear 224x224")


SPEC = Spec(
    name="interpolate",
    formula="y_p = sum_q A_qp x_q along each axis",
    gradient="dx_q = sum_p A_qp dy_p along each axis",
    manual=interpolate,
    native=F.interpolate,
    samples=_samples,
    refused=_refused,
    modules={
        Upsample: _modules,
        UpsamplingNearest2d: _modules_2d,
        UpsamplingBilinear2d: _modules_2d,
    },
    bench=_bench,
)
