r"""Local response normalization: a channel is damped by the activity of its neighbours.

Indices: ``c`` channel; w(c) its window, the ``size`` channels from c - size//2 to
c + (size-1)//2, as far as they exist. Every position is by itself.

Forward::

    s_c = k + alpha/size sum_{d in w(c)} x_d^2
    y_c = x_c s_c^-beta

Backward. x_d moves y_d by itself, and every s_c whose window holds it, by 2 alpha/size x_d::

    dL/dx_d = dL/dy_d s_d^-beta - 2 alpha beta/size x_d sum_{c: d in w(c)} dL/dy_c x_c s_c^(-beta-1)

The channels whose windows hold d are a window themselves, mirrored: from d - (size-1)//2 to
d + size//2.

Krizhevsky, Sutskever & Hinton (2012), "ImageNet Classification with Deep Convolutional Neural
Networks", section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample


def _window_sum(t: Tensor, before: int, after: int) -> Tensor:
    """Sum over the channels from ``before`` in front of each to ``after`` behind it."""
    padding = [0] * (2 * t.dim() - 4) + [before, after]  # from the last axis to the channels'
    return F.pad(t, padding).unfold(1, before + 1 + after, 1).sum(-1)


class LocalResponseNormFunction(Function):
    """``x``: (N, C, L...)."""

    @staticmethod
    def forward(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        return F.local_response_norm(x, size, alpha, beta, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.numbers = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        size, alpha, beta, k = ctx.numbers
        (x_given,) = ctx.saved_tensors
        grad_y, x = widened(grad_y, x_given)
        before, after = size // 2, (size - 1) // 2
        s = k + alpha / size * _window_sum(x.square(), before, after)
        g = grad_y * s.pow(-beta)
        grad_x = g - 2 * alpha * beta / size * x * _window_sum(g * x / s, after, before)
        return grad_x.to(x_given.dtype), None, None, None, None


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """The gradient by hand of ``torch.nn.functional.local_response_norm``.

    Args:
        input: (N, C, L...), three axes or more
        size: channels in a window
        alpha: weight of the window's mean square
        beta: exponent of the damping
        k: what is added to the mean square

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: Where there are fewer than three axes.
    """
    if input.dim() < 3 or input.numel() == 0:
        return F.local_response_norm(input, size, alpha, beta, k)
    return LocalResponseNormFunction.apply(input, size, alpha, beta, k)


class LocalResponseNorm(torch.nn.LocalResponseNorm):
    """``torch.nn.LocalResponseNorm`` with :class:`LocalResponseNormFunction`'s gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L...) to the same shape."""
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 5, 3), 3, 0.5)
    yield sample(draw(2, 5, 3, 4), 2, 0.5, 0.6, 2.0, label="even window")
    yield sample(draw(2, 3, 4), 7, 0.5, label="window of all")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), 2, label="two axes")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 5, 3, 4), 2, alpha=0.5)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 32, 8, 16), 5)
    yield sample(draw(8, 64, 32, 32), 5)


SPEC = Spec(
    name="local_response_norm",
    formula="y_c = x_c s_c^-beta,  s_c = k + alpha/size sum_{d in window(c)} x_d^2",
    gradient="dx_d = dy_d s_d^-beta - 2 alpha beta/size x_d sum_{c: d in window(c)} dy_c y_c / s_c",
    manual=local_response_norm,
    native=torch.nn.functional.local_response_norm,
    samples=_samples,
    refused=_refused,
    modules={LocalResponseNorm: _modules},
    bench=_bench,
)
