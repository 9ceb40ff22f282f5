r"""Convolution, 1-D to 3-D: one small set of weights, used at every place of the input.

Indices: ``n`` example, ``c`` input channel, ``o`` output channel, ``p`` place of the output, ``k``
place in the kernel. ``p`` and ``k`` stand for one, two or three numbers. With stride s, dilation d
and padding e, output p sees input ``p s + k d - e`` through weight k; outside the image x is 0.

Forward::

    y_nop = sum_ck W_ock x_nc(ps+kd-e) + b_o                           (N, O, P...)

Backward::

    dL/dx_ncq = sum_okp dL/dy_nop W_ock   over p s + k d - e = q       (N, C, Q...)
    dL/dW_ock = sum_np dL/dy_nop x_nc(ps+kd-e)                         (O, C, K...)
    dL/db_o   = sum_np dL/dy_nop                                       (O)

All three products are convolutions again:

- ``dL/dx``: what y gathered from x, the blame is scattered to. Run from p to q instead of from q
  to p, that is ``conv_transpose`` with the same numbers (for stride 1 a convolution with the
  kernel flipped).
- ``dL/dW``: a weight is used at every place of every example, and is blamed for all of them: the
  sum over n and p. Read it with k as the place of an output and p as the place in a kernel, and it
  is a convolution of x with dL/dy for its kernel: examples take the part of channels, channels
  that of examples, and stride and dilation change places, since ``p s + k d`` is ``k d + p s``.
  :mod:`manual_bp.convolutional` has this form and two that are quicker for some sizes.

Groups are independent convolutions side by side. LeCun et al. (1989), "Backpropagation Applied to
Handwritten Zip Code Recognition", section 3; for the exchanged roles Dumoulin & Visin (2016), "A
guide to convolution arithmetic for deep learning", chapter 4.
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
from manual_bp.layers.pad import pad
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class ConvolutionFunction(Function):
    """``x``: (N, C, Q...) or (C, Q...), ``weight``: (O, C/groups, K...), ``bias``: (O) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dims: int,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> Tensor:
        return CONVOLUTION[dims](x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, dims, stride, padding, dilation, groups = inputs
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
        if not x.numel():
            zeros = no_gradients(x, weight, weight.shape[0], ctx.needs_input_grad)
            return *zeros, *(None,) * 5
        batched = x.dim() == len(g.taps) + 2
        if not batched:
            x, grad_y = x.unsqueeze(0), grad_y.unsqueeze(0)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = input_gradient(grad_y, weight.conj(), x.shape[2:], g)
            grad_x = grad_x if batched else grad_x.squeeze(0)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(x.conj(), grad_y, g)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_y.sum((0, *range(2, grad_y.dim())))
        return grad_x, grad_weight, grad_bias, *(None,) * 5


def input_gradient(grad_y: Tensor, weight: Tensor, sizes: Places, g: Geometry) -> Tensor:
    """``dL/dx``: (N, C, *sizes)."""
    # Where the stride does not divide, the last inputs were never seen: the output alone does not
    # tell how many there are.
    unseen = [
        size - ((places - 1) * s - 2 * e + d * (k - 1) + 1)
        for size, places, k, s, e, d in zip(sizes, grad_y.shape[2:], *g[:4], strict=True)
    ]
    transposed = TRANSPOSED[len(sizes)]
    grad_x = transposed(grad_y, weight, None, g.stride, g.padding, unseen, g.groups, g.dilation)
    if torch.compiler.is_compiling() and all(places == 1 for places in grad_y.shape[2:]):
        # Of a single place one cannot tell if channels come first or last in memory: the compiler
        # takes the result for the other one than the kernel makes of it.
        grad_x = grad_x.contiguous()
    return grad_x


def _convolve(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    if padding == "valid":
        padding = 0
    elif padding == "same" and set(per_axis(stride, dims)) == {1} and weight.dim() == dims + 2:
        reach = [
            d * (k - 1) for k, d in zip(weight.shape[2:], per_axis(dilation, dims), strict=True)
        ]
        # An odd one out of the padding goes to the end of its axis, as torch has it.
        if any(r % 2 for r in reach):
            input = pad(input, [e for r in reversed(reach) for e in (0, r % 2)])
        padding = tuple(r // 2 for r in reach)
    return ConvolutionFunction.apply(input, weight, bias, dims, stride, padding, dilation, groups)


@under_autocast("lower")
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places | str = 0,
    dilation: int | Places = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over one axis; as ``torch.nn.functional.conv1d``, see :func:`conv2d`."""
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


@under_autocast("lower")
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places | str = 0,
    dilation: int | Places = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution with its gradients by hand; as ``torch.nn.functional.conv2d``.

    Args:
        input: (N, C, H, W), or (C, H, W) for one example
        weight: (O, C / groups, taps, taps)
        bias: (O), or None
        stride: pixels from one output to the next
        padding: pixels of zeros on each side, "valid" for none, "same" for as many outputs as
            inputs
        dilation: pixels from one tap to the next
        groups: how many convolutions stand side by side, each on its own channels

    Returns:
        (N, O, H', W'), in the dtype of the arguments; H' = (H + 2 padding - reach) // stride + 1
        with reach = dilation (taps - 1) + 1.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


@under_autocast("lower")
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Places = 1,
    padding: int | Places | str = 0,
    dilation: int | Places = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over three axes; as ``torch.nn.functional.conv3d``, see :func:`conv2d`."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


def _forward(
    module: torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d,
    convolution: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    padding: Any = module.padding
    if module.padding_mode != "zeros":
        x = pad(x, module._reversed_padding_repeated_twice, module.padding_mode)
        padding = 0
    return convolution(x, weight, bias, module.stride, padding, module.dilation, module.groups)


class Conv1d(torch.nn.Conv1d):
    """``torch.nn.Conv1d`` whose gradients are :class:`ConvolutionFunction`'s."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _forward(self, conv1d, input, weight, bias)


class Conv2d(torch.nn.Conv2d):
    """``torch.nn.Conv2d`` whose gradients are :class:`ConvolutionFunction`'s."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _forward(self, conv2d, input, weight, bias)


class Conv3d(torch.nn.Conv3d):
    """``torch.nn.Conv3d`` whose gradients are :class:`ConvolutionFunction`'s."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _forward(self, conv3d, input, weight, bias)


def _samples(draw: Draw) -> Iterator[Sample]:
    x = (2, 4, 6, 7)
    yield sample(draw(*x), draw(3, 4, 3, 2), draw(3))
    yield sample(draw(*x), draw(3, 4, 3, 2), None, (2, 3), (1, 2), (2, 1), label="all numbers")
    yield sample(draw(*x), draw(6, 2, 3, 2), draw(6), 2, groups=2, label="groups")
    yield sample(draw(*x), draw(8, 1, 3, 2), None, (1, 2), (2, 1), (1, 2), 4, label="depthwise")
    yield sample(draw(*x), draw(3, 4, 1, 1), draw(3), label="one tap")
    yield sample(draw(2, 8, 4, 3), draw(3, 8, 3, 3), None, padding=1, label="a large fan-in")
    yield sample(draw(4, 6, 7), draw(3, 4, 3, 2), draw(3), 2, label="one example")
    yield sample(draw(*x), draw(3, 4, 1, 3), None, padding="same", dilation=(1, 2), label="same")
    yield sample(draw(*x), draw(3, 4, 3, 2), None, 2, "valid", label="valid")
    yield sample(draw(0, 4, 6, 7), draw(3, 4, 3, 2), draw(3), label="no examples")


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 7), draw(3, 4, 3), draw(3))
    yield sample(draw(2, 4, 9), draw(6, 2, 3), None, 2, 1, 2, 2, label="all numbers")
    yield sample(draw(2, 4, 9), draw(4, 1, 3), None, 2, groups=4, label="depthwise")
    yield sample(draw(4, 7), draw(3, 4, 3), draw(3), padding="same", label="one example, same")


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 3, 5), draw(3, 2, 2, 1, 3), draw(3))
    yield sample(draw(2, 4, 4, 3, 5), draw(6, 2, 2, 1, 3), None, 2, 1, (2, 1, 1), 2, label="groups")
    yield sample(draw(2, 2, 4, 3, 5), draw(2, 1, 2, 1, 3), None, (2, 1, 1), groups=2, label="depth")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 6, 7), draw(3, 5, 3, 2), label="channels differ")
    yield sample(draw(2, 4, 6, 7), draw(3, 4, 7, 2), label="a kernel larger than the image")
    yield sample(draw(2, 4, 6, 7), draw(3, 4, 3), label="weight of a line")
    yield sample(draw(4, 7), draw(3, 4, 3, 2), label="input of a line")
    yield sample(draw(2, 4, 6, 7), draw(3, 4, 3, 2), draw(4), label="bias differs")
    yield sample(draw(2, 4, 6, 7), draw(3, 4, 3, 2), None, 2, "same", label="same with a stride")
    yield sample(draw(2, 4, 6, 7), draw(3, 4, 3, 2), None, 1, "sane", label="a word unknown")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 6, 7), 4, 3, 3)
    yield sample(draw(4, 6, 7), 4, 6, (3, 2), 2, 1, 1, 2, False)
    for mode in ("reflect", "replicate", "circular"):
        yield sample(draw(2, 3, 6, 7), 3, 2, 3, padding=(1, 2), padding_mode=mode)
    yield sample(draw(2, 3, 6, 7), 3, 2, (3, 4), padding="same", padding_mode="reflect")


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 7), 4, 3, 3, padding=2, padding_mode="circular")


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 4, 3, 5), 2, 3, (2, 1, 3), padding=1, padding_mode="replicate")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), draw(16, 16, 3, 3), None, 1, 1, label="3x3, 8x8 pixels")
    yield sample(draw(32, 64, 28, 28), draw(64, 64, 3, 3), None, 1, 1, label="3x3, 28x28 pixels")
    yield sample(draw(32, 64, 28, 28), draw(128, 64, 3, 3), None, 2, 1, label="stride 2")
    yield sample(draw(32, 64, 28, 28), draw(64, 64, 1, 1), label="1x1")
    yield sample(draw(32, 64, 28, 28), draw(64, 1, 3, 3), None, 1, 1, 1, 64, label="depthwise")


def _bench_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 64), draw(16, 16, 3), None, 1, 1)
    yield sample(draw(32, 64, 512), draw(64, 64, 3), None, 1, 1)


def _bench_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 8, 6, 8, 8), draw(8, 8, 3, 3, 3), None, 1, 1)
    yield sample(draw(4, 16, 16, 16, 16), draw(32, 16, 3, 3, 3), None, 1, 1)


_GRADIENT = "dx = conv_transpose(dy, W),  dW = conv(x, dy) over examples,  db = sum_np dy"

CONV1D = Spec(
    name="conv1d",
    formula="y_p = sum_k W_k x_(ps+kd) + b",
    gradient=_GRADIENT,
    manual=conv1d,
    native=F.conv1d,
    samples=_samples_1d,
    modules={Conv1d: _modules_1d},
    bench=_bench_1d,
)
CONV2D = Spec(
    name="conv2d",
    formula="y_p = sum_k W_k x_(ps+kd) + b,  p and k two numbers each",
    gradient=_GRADIENT,
    manual=conv2d,
    native=F.conv2d,
    samples=_samples,
    refused=_refused,
    modules={Conv2d: _modules},
    bench=_bench,
)
CONV3D = Spec(
    name="conv3d",
    formula="y_p = sum_k W_k x_(ps+kd) + b,  p and k three numbers each",
    gradient=_GRADIENT,
    manual=conv3d,
    native=F.conv3d,
    samples=_samples_3d,
    modules={Conv3d: _modules_3d},
    bench=_bench_3d,
)
