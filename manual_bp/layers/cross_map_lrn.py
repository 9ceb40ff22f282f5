r"""Cross-map LRN: a channel is damped by its neighbours, and by the first channel of all.

Indices: ``c`` and ``d`` channel. Every position is by itself. ``w(c)`` is the window of c: the
channels at most p = int((size - 1) / 2) away, and channel 0.

Forward::

    s_c = k + alpha/size sum_{d in w(c)} x_d^2
    y_c = x_c s_c^-beta

Backward. x_d moves y_d by itself, and every s_c whose window holds it, by 2 alpha/size x_d::

    dL/dx_d = dL/dy_d s_d^-beta - 2 alpha beta/size x_d sum_{c: d in w(c)} dL/dy_c x_c s_c^(-beta-1)

With A_cd = 1 where d is in w(c), else 0, the windows' sums are A x^2, and the sum over the windows
that hold d is one with the transpose of A: what spreads forward along A comes back along A^T.

``torch.nn.CrossMapLRN2d`` moves its window by adding the next channel and taking the last one
away, but never takes channel 0 away (torch 2.13): hence the first channel in every window, which
:mod:`manual_bp.layers.local_response_norm` does not have. The backward that torch has written for
it leaves that out, so that it is right only where every window reaches channel 0 anyway; here it
is the derivative of what is computed.

Krizhevsky, Sutskever & Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
Networks", section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample


def _windows(x: Tensor, size: int) -> Tensor:
    """A: (C, C)."""
    channel = torch.arange(x.shape[-3], device=x.device)
    near = (channel.unsqueeze(1) - channel).abs() <= int((size - 1) / 2)
    return (near | (channel == 0)).to(x.dtype)


def _sum(windows: Tensor, t: Tensor) -> Tensor:
    """Sum of ``t``: (..., C, H, W) over the channels of each window."""
    return torch.einsum("cd,...dhw->...chw", windows, t)


class CrossMapLRNFunction(Function):
    """``x``: (N, C, H, W)."""

    @staticmethod
    def forward(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        return _reference(x, size, alpha, beta, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.numbers = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        size, alpha, beta, k = ctx.numbers
        (x_given,) = ctx.saved_tensors
        grad_y, x = widened(grad_y, x_given)
        windows = _windows(x, size)
        s = k + alpha / size * _sum(windows, x.square())
        g = grad_y * s.pow(-beta)
        grad_x = g - 2 * alpha * beta / size * x * _sum(windows.mT, g * x / s)
        return grad_x.to(x_given.dtype), None, None, None, None


def _reference(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1
) -> Tensor:
    """What ``torch.nn.CrossMapLRN2d`` computes, in operations that autograd can differentiate."""
    if input.dim() != 4:
        raise ValueError(f"CrossMapLRN2d: Expected input to be 4D, got {input.dim()}D instead.")
    (x,) = widened(input)
    s = k + alpha / size * _sum(_windows(x, size), x.square())
    return (x * s.pow(-beta)).to(input.dtype)


def cross_map_lrn2d(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1
) -> Tensor:
    """The gradient by hand of what ``torch.nn.CrossMapLRN2d`` computes.

    Args:
        input: (N, C, H, W)
        size: channels in a window
        alpha: weight of the window's mean square
        beta: exponent of the damping
        k: what is added to the mean square

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: Where there are not four axes.
    """
    if input.dim() != 4 or input.is_complex():  # the formula is of real numbers
        return _reference(input, size, alpha, beta, k)
    return CrossMapLRNFunction.apply(input, size, alpha, beta, k)


class CrossMapLRN2d(torch.nn.CrossMapLRN2d):
    """``torch.nn.CrossMapLRN2d`` with :class:`CrossMapLRNFunction`'s gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return cross_map_lrn2d(input, self.size, self.alpha, self.beta, self.k)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 5, 3, 4), 3, 0.5)
    yield sample(draw(2, 5, 3, 2), 2, 0.5, 0.6, 2.0, label="even window")
    yield sample(draw(2, 3, 4, 2), 7, 0.5, label="window of all")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4), 2, label="three axes")


def _modules(draw: Draw) -> Iterator[Sample]:
    # Windows of all channels, where torch's own gradient is right, too.
    yield sample(draw(2, 3, 3, 4), 7, alpha=0.5)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 32, 8, 16), 5)
    yield sample(draw(8, 64, 32, 32), 5)


SPEC = Spec(
    name="cross_map_lrn2d",
    formula="y_c = x_c s_c^-beta,  s_c = k + alpha/size sum_{d near c, and 0} x_d^2",
    gradient="dx_d = dy_d s_d^-beta - 2 alpha beta/size x_d sum_{c: d in window(c)} dy_c y_c / s_c",
    manual=cross_map_lrn2d,
    native=_reference,
    samples=_samples,
    refused=_refused,
    modules={CrossMapLRN2d: _modules},
    bench=_bench,
)
