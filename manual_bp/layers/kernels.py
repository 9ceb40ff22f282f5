r"""Layers under the names of torch's kernels: native_layer_norm, grid_sampler_2d and their like.

Exported and compiled models, and torch's own decompositions, call the kernel beneath a function.
What they compute is the function's, with its numbers where the function has words, and with the
statistics besides::

    native_layer_norm, native_group_norm      y, and mean and 1 / standard deviation of each group
    native_batch_norm and its variants        y, and those of each channel
    grid_sampler_2d, _3d                      grid_sample
    _upsample_bilinear2d_aa                   interpolate, with antialias
    _safe_softmax                             softmax, 0 for a row that is -inf throughout

Three are the backward of a layer, called as a function, and are differentiated in their turn. They
are linear in the gradient they are given, so this is written in operations that are by hand::

    _softmax_backward_data               dx = y (dy - sum_j dy_j y_j)
    native_dropout_backward              dx = dy m / (1 - p)
    max_pool2d_with_indices_backward     dx_q = sum of dy_p over p whose largest is q
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.layers.batch_norm import BatchNormFunction
from manual_bp.layers.grid_sample import GridSampleFunction
from manual_bp.layers.group_norm import GroupNormFunction
from manual_bp.layers.interpolate import InterpolateFunction
from manual_bp.layers.layer_norm import LayerNormFunction
from manual_bp.layers.softmax import softmax
from manual_bp.ops.add import add, sub
from manual_bp.ops.fill import fill
from manual_bp.ops.gather import scatter_add
from manual_bp.ops.mul import mul
from manual_bp.ops.power import rsqrt
from manual_bp.ops.sum import mean, sum
from manual_bp.ops.to import to
from manual_bp.ops.var import var
from manual_bp.ops.view import flatten, reshape, view
from manual_bp.ops.where import masked_fill
from manual_bp.spec import Draw, Sample, Spec, sample

Three = tuple[Tensor, Tensor, Tensor]


def native_layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Three:
    """``layer_norm`` with its statistics; as ``torch.native_layer_norm``.

    Args:
        input: (..., *normalized_shape)
        normalized_shape: the trailing axes over which mean and variance are taken
        weight: normalized_shape, or None for 1
        bias: normalized_shape, or None for 0
        eps: added to the variance

    Returns:
        The shape of ``input``; mean and 1 / standard deviation, constants, with axes of 1.

    Raises:
        RuntimeError: From torch, where ``input`` does not end in ``normalized_shape``.
    """
    return LayerNormFunction.apply(input, weight, bias, tuple(normalized_shape), eps)


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> Three:
    """``group_norm`` with its statistics, which have gradients; as ``torch.native_group_norm``.

    Torch leaves out the gradients of the statistics where ``y`` is not used; they are given here.
    """
    y, *_ = GroupNormFunction.apply(input, weight, bias, group, eps)
    groups = reshape(input, N, group, C // group * HxW)
    rstd = rsqrt(add(var(groups, 2, correction=0), eps))
    return y, mean(groups, 2), rstd


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Three:
    """``batch_norm`` with its statistics, constants; as ``torch.native_batch_norm``."""
    return BatchNormFunction.apply(
        input, weight, bias, running_mean, running_var, training, momentum, eps
    )


def _legit_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any, **named: Any
) -> Three:
    """``native_batch_norm``, whose running statistics may be left out."""
    statistics = () if len(rest) + len(named) == 5 else (None, None)
    return native_batch_norm(input, weight, bias, *statistics, *rest, **named)


def _batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``native_batch_norm`` in training, with room for what cuDNN keeps."""
    y, save_mean, rstd = native_batch_norm(
        input, weight, bias, running_mean, running_var, True, momentum, eps
    )
    return y, save_mean, rstd, input.new_empty(0, dtype=torch.uint8)


_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """``grid_sample`` with numbers for words; as ``torch.grid_sampler``.

    Args:
        input: (N, C, H, W), or (N, C, D, H, W)
        grid: (N, H', W', 2), or (N, D', H', W', 3)
        interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic
        padding_mode: 0 zeros, 1 border, 2 reflection
        align_corners: whether -1 and 1 are the centres of the outermost pixels, or their edges

    Raises:
        RuntimeError: From torch, where shapes or modes do not fit.
    """
    mode, padding = _MODES[interpolation_mode], _PADDINGS[padding_mode]
    return GridSampleFunction.apply(input, grid, mode, padding, align_corners)


class BilinearAAFunction(Function):
    """``x``: (N, C, H, W); ``scales``: of the two axes, None for the ratio of the sizes."""

    @staticmethod
    def forward(x: Tensor, size: Any, align_corners: bool, *scales: float | None) -> Tensor:
        return torch.ops.aten._upsample_bilinear2d_aa(x, size, align_corners, *scales)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.size, ctx.align_corners, *ctx.scales = inputs
        ctx.x_size = x.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = widened(grad_y)
        rows, columns = (
            # One row for each input place: the interpolation of the identity matrix.
            torch.ops.aten._upsample_bilinear2d_aa(
                torch.eye(size, dtype=g.dtype, device=g.device).view(1, size, 1, size),
                (1, places),
                ctx.align_corners,
                None,
                scale,
            ).view(size, places)
            for size, places, scale in zip(ctx.x_size, ctx.size, ctx.scales, strict=True)
        )
        return (rows @ g @ columns.t()).to(grad_y.dtype), None, None, None, None


def _bilinear_aa(
    input: Tensor,
    output_size: Any,
    align_corners: bool,
    scale_factors: Any = None,
    scales_w: float | None = None,
    **scales: float | None,
) -> Tensor:
    """Of a size, or scaled by ``scale_factors``; or of a size, with a scale for each axis."""
    one_by_one = scales or scales_w is not None or not isinstance(scale_factors, (list, tuple))
    if one_by_one and output_size is not None:
        scales_h = scales.get("scales_h", scale_factors)
        return BilinearAAFunction.apply(input, output_size, align_corners, scales_h, scales_w)
    how = output_size, scale_factors, "bilinear", align_corners, None, True
    return InterpolateFunction.apply(input, *how)


def _safe_softmax(self: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """``softmax``; 0 for a row of -inf, of which nothing is to be had."""
    dead = (self == -torch.inf).all(dim, keepdim=True)
    # Masked on the way in, too: the softmax of such a row would be NaN, and 0 times NaN its blame.
    return masked_fill(softmax(masked_fill(self, dead, 0.0), dim, dtype=dtype), dead, 0.0)


def _softmax_backward(
    grad_output: Tensor, output: Tensor, dim: int, input_dtype: torch.dtype
) -> Tensor:
    g = mul(grad_output, output)
    return to(sub(g, mul(output, sum(g, dim, True))), input_dtype)


def _dropout_backward(grad_output: Tensor, mask: Tensor, scale: float) -> Tensor:
    return mul(mul(grad_output, mask), scale)


def _max_pool2d_backward(
    grad_output: Tensor,
    self: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    del kernel_size, stride, padding, dilation, ceil_mode  # the indices tell all
    zeros = flatten(fill(self, 0.0), -2)  # the gradient does not depend on x but by its indices
    added = scatter_add(zeros, -1, indices.flatten(-2), flatten(grad_output, -2))
    return view(added, self.shape)


def _layer_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), [3], draw(3), draw(3), 1e-5)


def _grid_samples(draw: Draw) -> Iterator[Sample]:
    grid = draw.uniform(2, 3, 5, 2, low=-0.9, high=0.9).requires_grad_()
    yield sample(draw(2, 3, 4, 3), grid, 0, 0, False)
    yield sample(draw(2, 3, 4, 3), grid, 2, 1, True, label="bicubic, border")


NATIVE_LAYER_NORM = Spec(
    name="native_layer_norm",
    formula="y = weight (x - mean) rstd + bias",
    gradient="as layer_norm's",
    manual=native_layer_norm,
    native=torch.native_layer_norm,
    inplace={
        torch.native_group_norm: native_group_norm,
        torch.native_batch_norm: native_batch_norm,
        torch._native_batch_norm_legit: _legit_batch_norm,
        torch.ops.aten._batch_norm_with_update: _batch_norm_with_update,
        torch.ops.aten._safe_softmax: _safe_softmax,
        torch.ops.aten._safe_softmax.default: _safe_softmax,
        torch.ops.aten._softmax_backward_data: _softmax_backward,
        torch.ops.aten._softmax_backward_data.default: _softmax_backward,
        torch.ops.aten.native_dropout_backward: _dropout_backward,
        torch.ops.aten.native_dropout_backward.default: _dropout_backward,
        torch.ops.aten.max_pool2d_with_indices_backward: _max_pool2d_backward,
        torch.ops.aten.max_pool2d_with_indices_backward.default: _max_pool2d_backward,
        torch.ops.aten._upsample_bilinear2d_aa: _bilinear_aa,
    },
    samples=_layer_samples,
)
GRID_SAMPLER = Spec(
    name="grid_sampler",
    formula="as grid_sample",
    gradient="as grid_sample's",
    manual=grid_sampler,
    native=torch.grid_sampler,
    overrides=(torch.grid_sampler_2d, torch.grid_sampler_3d),
    samples=_grid_samples,
)
