r"""Transposed convolution, 1-D to 3-D: the backward of a convolution, used as a forward.

Indices: ``n`` example, ``c`` input channel, ``o`` output channel, ``p`` place of the input, ``k``
place in the kernel; one, two or three numbers each. Stride s, dilation d, padding e: input p
paints weight k onto output ``p s + k d - e``, and what falls outside is lost.

Forward::

    y_noq = sum_ckp x_ncp W_cok + b_o   over p s + k d - e = q      (N, O, Q...)

Backward. Input and output have changed places, so what was said of a convolution holds with x
and dL/dy changed too::

    dL/dx_ncp = sum_ok W_cok dL/dy_no(ps+kd-e)           a convolution      (N, C, P...)
    dL/dW_cok = sum_np x_ncp dL/dy_no(ps+kd-e)           x blames, dL/dy is seen    (C, O, K...)
    dL/db_o   = sum_nq dL/dy_noq                                            (O)

A convolution as a matrix M maps x to y = M x and blame back by M^T. This layer is y = M^T x; its
blame goes back by M. It undoes the shape of a convolution, not its values.

Zeiler et al. (2010), "Deconvolutional Networks", section 2; Dumoulin & Visin (2016), "A guide to
convolution arithmetic for deep learning", chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.convolutional import (
    CONVOLUTION,
    TRANSPOSED,
    Geometry,
    Places,
    no_gradients,
    per_axis,
    weight_gradient,
)
from manual_bp.function import Function, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class ConvTransposeFunction(Function):
    """``x``: (N, C, P...) or (C, P...), ``weight``: (C, O/groups, K...), ``bias``: (O) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: int,
        stride: Any,
        padding: Any,
        output_padding: Any,
        groups: int,
        dilation: Any,
    ) -> Tensor:
        transposed = TRANSPOSED[dims]
        return transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, dims, stride, padding, _, groups, dilation = inputs
        ctx.geometry = Geometry(
            tuple(weight.shape[2:]),
            per_axis(stride, dims),
            per_axis(padding, dims),
            per_axis(dilation, dims),
            groups,
        )
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = ctx.geometry
        dims = len(g.taps)
        if not x.numel():
            outputs = weight.shape[1] * g.groups
            zeros = no_gradients(x, weight, outputs, ctx.needs_input_grad)
            return *zeros, *(None,) * 6
        batched = x.dim() == dims + 2
        if not batched:
            x, grad_y = x.unsqueeze(0), grad_y.unsqueeze(0)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            numbers = g.stride, g.padding, g.dilation, g.groups
            grad_x = CONVOLUTION[dims](grad_y, weight.conj(), None, *numbers)
            # An output padding as large as the stride makes room for inputs that were not there.
            for axis in range(2, 2 + dims):
                grad_x = grad_x.narrow(axis, 0, x.shape[axis])
            grad_x = grad_x if batched else grad_x.squeeze(0)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(grad_y, x.conj(), g)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_y.sum((0, *range(2, 2 + dims)))
        return grad_x, grad_weight, grad_bias, *(None,) * 6


@under_autocast("lower")
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places = 0,
    output_padding: int | Places = 0,
    groups: int = 1,
    dilation: int | Places = 1,
) -> Tensor:
    """Transposed convolution along a line; see :func:`conv_transpose2d`."""
    return ConvTransposeFunction.apply(
        input, weight, bias, 1, stride, padding, output_padding, groups, dilation
    )


@under_autocast("lower")
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places = 0,
    output_padding: int | Places = 0,
    groups: int = 1,
    dilation: int | Places = 1,
) -> Tensor:
    """Transposed convolution by hand; as ``torch.nn.functional.conv_transpose2d``.

    Args:
        input: (N, C, H, W), or (C, H, W) for one example
        weight: (C, O / groups, taps, taps)
        bias: (O), or None
        stride: pixels of the output from one input to the next
        padding: pixels of the output that are cut off on each side
        output_padding: pixels added to the end, less than the stride or the dilation
        groups: how many of these stand side by side, each on its own channels
        dilation: pixels from one tap to the next

    Returns:
        (N, O, H', W'), in the dtype of the arguments;
        H' = (H - 1) stride - 2 padding + dilation (taps - 1) + 1 + output_padding.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return ConvTransposeFunction.apply(
        input, weight, bias, 2, stride, padding, output_padding, groups, dilation
    )


@under_autocast("lower")
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places = 0,
    output_padding: int | Places = 0,
    groups: int = 1,
    dilation: int | Places = 1,
) -> Tensor:
    """Transposed convolution in space; see :func:`conv_transpose2d`."""
    return ConvTransposeFunction.apply(
        input, weight, bias, 3, stride, padding, output_padding, groups, dilation
    )


def _forward(
    module: Any,
    transposed: Callable[..., Tensor],
    x: Tensor,
    output_size: list[int] | None,
) -> Tensor:
    if module.padding_mode != "zeros":
        kind = type(module).__name__
        raise ValueError(f"Only `zeros` padding mode is supported for {kind}")
    dims = len(module.kernel_size)
    output_padding = module._output_padding(
        x, output_size, module.stride, module.padding, module.kernel_size, dims, module.dilation
    )
    return transposed(
        x,
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        output_padding,
        module.groups,
        module.dilation,
    )


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` whose gradients are :class:`ConvTransposeFunction`'s."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Paint every number of ``input`` as a kernel; ``output_size`` tells sizes apart."""
        return _forward(self, conv_transpose1d, input, output_size)


class ConvTranspose2d(torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` whose gradients are :class:`ConvTransposeFunction`'s."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Paint every number of ``input`` as a kernel; ``output_size`` tells sizes apart."""
        return _forward(self, conv_transpose2d, input, output_size)


class ConvTranspose3d(torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` whose gradients are :class:`ConvTransposeFunction`'s."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Paint every number of ``input`` as a kernel; ``output_size`` tells sizes apart."""
        return _forward(self, conv_transpose3d, input, output_size)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 4), draw(4, 3, 3, 2), draw(3))
    yield sample(draw(2, 4, 3, 4), draw(4, 3, 3, 2), None, (2, 3), (1, 0), (1, 2), label="numbers")
    yield sample(draw(2, 4, 3, 4), draw(4, 3, 2, 3), draw(6), 2, 1, 1, 2, (1, 2), label="groups")
    yield sample(draw(2, 4, 3, 4), draw(4, 2, 3, 2), None, 2, groups=4, label="depthwise")
    yield sample(draw(2, 4, 5, 4), draw(4, 3, 2, 2), None, 1, 1, 2, 1, 3, label="wide padding")
    yield sample(draw(4, 3, 4), draw(4, 3, 1, 1), draw(3), label="one example, one tap")
    yield sample(draw(0, 4, 3, 4), draw(4, 3, 3, 2), draw(3), label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 5), draw(4, 3, 3), draw(3))
    yield sample(draw(4, 5), draw(4, 3, 3), draw(6), 2, 1, 1, 2, 2, label="all numbers")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 3, 2, 3), draw(2, 3, 2, 1, 3), draw(3))
    yield sample(draw(2, 4, 3, 2, 3), draw(4, 2, 2, 1, 3), None, 2, 1, 1, 2, (2, 1, 1), label="all")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 4), draw(5, 3, 3, 2), label="channels differ")
    yield sample(draw(2, 4, 3, 4), draw(4, 3, 3, 2), draw(4), label="bias differs")
    yield sample(draw(2, 4, 3, 4), draw(4, 3, 3, 2), None, 2, 0, 2, label="output padding")
    yield sample(draw(4, 4), draw(4, 3, 3, 2), label="input of a line")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 4), 4, 3, 3, 2, 1, 1)
    yield sample((draw(4, 3, 4), [7, 8]), 4, 6, (3, 2), 2, groups=2, bias=False)


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 5), 4, 3, 3, 2)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 3, 2, 3), 2, 3, (2, 1, 3), 2)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 32, 8, 8), draw(32, 16, 4, 4), None, 2, 1, label="8x8 pixels")
    yield sample(draw(32, 64, 14, 14), draw(64, 64, 4, 4), None, 2, 1, label="14x14 pixels")


def _bench_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 32), draw(16, 16, 4), None, 2, 1)
    yield sample(draw(32, 64, 256), draw(64, 64, 4), None, 2, 1)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 4, 4, 4), draw(8, 8, 4, 4, 4), None, 2, 1)
    yield sample(draw(4, 16, 8, 8, 8), draw(16, 16, 4, 4, 4), None, 2, 1)


CONV_TRANSPOSE1D = Spec(
    name="conv_transpose1d",
    formula="y_q = sum_kp W_k x_p + b  over p s + k d - e = q",
    gradient="dx = conv(dy, W),  dW = conv(dy, x) over examples,  db = sum_nq dy",
    manual=conv_transpose1d,
    native=F.conv_transpose1d,
    samples=_samples_1d,
    modules={ConvTranspose1d: _modules_1d},
    bench=_bench_1d,
)
CONV_TRANSPOSE2D = Spec(
    name="conv_transpose2d",
    formula="y_q = sum_kp W_k x_p + b  over p s + k d - e = q",
    gradient="dx = conv(dy, W),  dW = conv(dy, x) over examples,  db = sum_nq dy",
    manual=conv_transpose2d,
    native=F.conv_transpose2d,
    samples=_samples,
    refused=_refused,
    modules={ConvTranspose2d: _modules},
    bench=_bench,
)
CONV_TRANSPOSE3D = Spec(
    name="conv_transpose3d",
    formula="y_q = sum_kp W_k x_p + b  over p s + k d - e = q",
    gradient="dx = conv(dy, W),  dW = conv(dy, x) over examples,  db = sum_nq dy",
    manual=conv_transpose3d,
    native=F.conv_transpose3d,
    samples=_samples_3d,
    modules={ConvTranspose3d: _modules_3d},
    bench=_bench_3d,
)
