r"""The logarithm of a sum of exponentials along an axis: logsumexp and logcumsumexp.

Forward, for j = 1..J along an axis::

    logsumexp     y   = log sum_i exp(x_i)
    logcumsumexp  y_j = log sum_{i <= j} exp(x_i)

Backward. x_i is met in every y_j that is not before it, by its share of the sum::

    logsumexp     dL/dx_i = dL/dy exp(x_i - y)              a softmax
    logcumsumexp  dL/dx_i = sum_{j >= i} dL/dy_j exp(x_i - y_j)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.ops.sum import spread
from manual_bp.spec import Draw, Sample, Spec, sample


class LogSumExpFunction(Function):
    """``x``: any shape; ``dim``: axes."""

    @staticmethod
    def forward(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
        return torch.logsumexp(x, dim, keepdim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.keepdim = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_given, y = ctx.saved_tensors
        grad_y, x, y = widened(grad_y, x_given, y)
        grad_y, y = (spread(t, x.shape, ctx.dim, ctx.keepdim) for t in (grad_y, y))
        return (grad_y * (x - y).exp().conj()).to(x_given.dtype), None, None


class LogCumSumExpFunction(Function):
    """``x``: any shape; ``dim``: an axis."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return torch.logcumsumexp(x, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x_given, y = ctx.saved_tensors
        grad_y, x, y = widened(grad_y, x_given, y)
        # sum_j g_j exp(-y_j) would overflow: it is taken in logarithms, by the sign of g_j.
        grad_x = torch.zeros_like(grad_y)
        for sign in (1, -1):
            g = sign * grad_y
            log_g = torch.where(g > 0, g, torch.ones_like(g)).log()
            log_g = log_g.masked_fill(g <= 0, torch.finfo(g.dtype).min)
            total = (log_g - y).flip(ctx.dim).logcumsumexp(ctx.dim).flip(ctx.dim)
            grad_x = grad_x + sign * (total + x).exp()
        return grad_x.to(x_given.dtype), None


@under_autocast("float32", devices=("cuda",))
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """The logarithm of the sum of exponentials over ``dim``; as ``torch.logsumexp``.

    Args:
        input: any shape
        dim: an axis, or several
        keepdim: leave the axes in place, with size 1

    Raises:
        IndexError: From torch, where there is no such axis.
    """
    return LogSumExpFunction.apply(input, dim, keepdim)


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``logsumexp`` up to each element along ``dim``; as ``torch.logcumsumexp``.

    Complex numbers are left to autograd.
    """
    if input.is_complex():
        return torch.logcumsumexp(input, dim)
    return LogCumSumExpFunction.apply(input, dim)


def _logsumexp_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1)
    yield sample(draw(4, 3, 2), (0, -1), True, label="two axes kept")
    yield sample(draw(4, 3, scale=300), 0, label="large")


def _logcumsumexp_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0)
    yield sample(draw(4, 3, scale=300), -1, label="large")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")


LOGSUMEXP = Spec(
    name="logsumexp",
    formula="y = log sum_i exp(x_i)",
    gradient="dx_i = dy exp(x_i - y)",
    manual=logsumexp,
    native=torch.logsumexp,
    overrides=(torch.Tensor.logsumexp, torch.special.logsumexp),
    samples=_logsumexp_samples,
    refused=_refused,
)
LOGCUMSUMEXP = Spec(
    name="logcumsumexp",
    formula="y_j = log sum_{i <= j} exp(x_i)",
    gradient="dx_i = sum_{j >= i} dy_j exp(x_i - y_j)",
    manual=logcumsumexp,
    native=torch.logcumsumexp,
    overrides=(torch.Tensor.logcumsumexp,),
    samples=_logcumsumexp_samples,
    refused=_refused,
)
