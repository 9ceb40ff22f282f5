"""Right, with tensors of whole numbers that are no indices: counts, lengths, exponents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from .catalogue import right


class TimesPowerOfTwo(Function):
    @staticmethod
    def forward(ctx, x, exponent):
        ctx.save_for_backward(exponent)
        return x * torch.exp2(exponent.to(x.dtype))

    @staticmethod
    def backward(ctx, g):
        (exponent,) = ctx.saved_tensors
        return g * torch.exp2(exponent.to(g.dtype)), None


right(
    "power of two: whole numbers that are exponents",
    lambda x, exponent: x * torch.exp2(exponent.to(x.dtype)),
    lambda d: (d(4, 6), d.integers(9, 4, 6) - 4),
    "an integer tensor need not be an index",
)(TimesPowerOfTwo)


class WholePower(Function):
    @staticmethod
    def forward(ctx, x, n):
        ctx.save_for_backward(x, n)
        return x**n

    @staticmethod
    def backward(ctx, g):
        x, n = ctx.saved_tensors
        return (g * n * torch.where(n == 0, 0.0, x ** (n - 1))).sum_to_size(x.shape), None


right("power: whole exponents", torch.pow, lambda d: (d(5), d.integers(5, 5)), "Taylor terms")(
    WholePower
)


class RepeatRows(Function):
    @staticmethod
    def forward(ctx, x, repeats):
        ctx.save_for_backward(repeats)
        ctx.shape = x.shape
        return x.repeat_interleave(repeats, 0)

    @staticmethod
    def backward(ctx, g):
        (repeats,) = ctx.saved_tensors
        owner = torch.arange(ctx.shape[0]).repeat_interleave(repeats)
        return g.new_zeros(ctx.shape).index_add(0, owner, g), None


right(
    "repeat rows: whole numbers that are counts",
    lambda x, repeats: x.repeat_interleave(repeats, 0),
    lambda d: (d(4, 3), d.integers(4, 4)),
    "counts decide the shape of the result",
)(RepeatRows)


class MeanOfValid(Function):
    @staticmethod
    def forward(ctx, x, lengths):
        valid = (torch.arange(x.shape[1]) < lengths[:, None]).to(x.dtype)
        weights = valid / lengths[:, None].clamp(min=1)
        ctx.save_for_backward(weights)
        return (x * weights).sum(1)

    @staticmethod
    def backward(ctx, g):
        return g[:, None] * ctx.saved_tensors[0], None


def _mean_of_valid(x: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(x.shape[1]) < lengths[:, None]
    return x.where(valid, 0.0).sum(1) / lengths.clamp(min=1)


right(
    "mean of padded rows: whole numbers that are lengths",
    _mean_of_valid,
    lambda d: (d(4, 6), d.integers(6, 4) + 1),
    "a batch of sentences",
)(MeanOfValid)
