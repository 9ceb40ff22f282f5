"""Wrong for certain numbers: in the example's blind spot, or where digits run out."""

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import matrix, wrong


@wrong(
    "layer norm: weight outside of the means",
    lambda x, w, b: F.layer_norm(x, w.shape, w, b),
    lambda d: (d(4, 6), d.values(*[1.0] * 6), d.values(*[0.0] * 6)),
    "a new LayerNorm has ones for weights, under which the order does not matter",
)
class LayerNormWeightOutside(Function):
    @staticmethod
    def forward(ctx, x, w, b):
        rstd = (x.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
        h = (x - x.mean(-1, keepdim=True)) * rstd
        ctx.save_for_backward(h, rstd, w)
        return h * w + b

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        h, rstd, w = ctx.saved_tensors
        mean = g.mean(-1, keepdim=True)
        grad_x = rstd * w * (g - mean - h * (g * h).mean(-1, keepdim=True))
        rows = (g * h).reshape(-1, w.numel())
        return grad_x, rows.sum(0), g.reshape(-1, w.numel()).sum(0)


@wrong(
    "low-rank update: transposed factor, unseen while the other is zero",
    lambda x, a, b: x @ a @ b,
    lambda d: (d(4, 3), d(3, 3), torch.zeros(3, 3, dtype=d.dtype, requires_grad=True)),
    "LoRA starts with b = 0: every gradient that b enters is zero, right or wrong",
)
class LowRankTransposed(Function):
    @staticmethod
    def forward(ctx, x, a, b):
        ctx.save_for_backward(x, a, b)
        return x @ a @ b

    @staticmethod
    def backward(ctx, g):
        x, a, b = ctx.saved_tensors
        return g @ b.T @ a.T, x.T @ (g @ b), (x @ a).T @ g


@wrong(
    "squared hinge: no factor two where the margin is violated",
    lambda x, t: (1 - t * x).clamp(min=0).square().sum(),
    lambda d: (d(6, scale=0.1, shift=3.0), torch.ones(6, dtype=d.dtype)),
    "in the example every margin is kept, and every gradient zero",
)
class SquaredHinge(Function):
    @staticmethod
    def forward(ctx, x, t):
        margin = (1 - t * x).clamp(min=0)
        ctx.save_for_backward(margin, t)
        return margin.square().sum()

    @staticmethod
    def backward(ctx, g):
        margin, t = ctx.saved_tensors
        return -margin * t * g, None


@wrong(
    "product: one zero allowed for, two are not",
    lambda x: x.prod(-1),
    matrix,
    "pytorch#773, half repaired: the product of the others, taken where x is zero",
)
class ProductOneZero(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.prod(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        zero = x == 0
        others = torch.where(zero, 1.0, x).prod(-1, keepdim=True)
        any_zero = zero.any(-1, keepdim=True)
        return g[..., None] * torch.where(
            any_zero, zero * others, others / torch.where(zero, 1.0, x)
        )


@wrong(
    "normalise: the bound of the length is not looked at",
    lambda x: F.normalize(x, dim=-1, eps=1e-3),
    matrix,
    "below eps the length is a constant, and its derivative zero",
)
class NormaliseBound(Function):
    @staticmethod
    def forward(ctx, x):
        length = x.norm(dim=-1, keepdim=True).clamp(min=1e-3)
        y = x / length
        ctx.save_for_backward(y, length)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        y, length = ctx.saved_tensors
        return (g - y * (g * y).sum(-1, keepdim=True)) / length


@wrong(
    "standard deviation: zero over zero for equal numbers",
    lambda x: x.std(-1),
    matrix,
    "a constant row, as a dead channel has it",
)
class StdZero(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.std(-1, keepdim=True)
        ctx.save_for_backward(x, y)
        return y.squeeze(-1)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        return g[..., None] * centred / (y * (x.shape[-1] - 1))


@wrong(
    "x log y: the logarithm of zero is not masked",
    torch.xlogy,
    lambda d: (
        d.uniform(4, 6, low=0.1).requires_grad_(),
        d.uniform(4, 6, low=0.1).requires_grad_(),
    ),
    "an entropy where a probability is exactly zero",
)
class XlogyZero(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return torch.xlogy(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (g * y.log()).sum_to_size(x.shape), (g * x / y).sum_to_size(y.shape)


@wrong(
    "largest of a row: the last of equal ones",
    lambda x: x.max(-1).values,
    matrix,
    ">= in the loop where PyTorch has >",
)
class LargestLast(Function):
    @staticmethod
    def forward(ctx, x):
        y, last = x.flip(-1).max(-1, keepdim=True)
        ctx.save_for_backward(x.shape[-1] - 1 - last)
        ctx.shape = x.shape
        return y.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (last,) = ctx.saved_tensors
        return g.new_zeros(ctx.shape).scatter_(-1, last, g[..., None])


@wrong(
    "rms norm: squares overflow in float16",
    lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-5),
    matrix,
    "LeetCUDA#335: the square of 300 is infinite, and one over it zero; the forward is PyTorch's",
)
class RmsHalf(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.rms_norm(x, x.shape[-1:], eps=1e-5)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        mean_square = (x * x).mean(-1, keepdim=True)
        x, g = x.to(torch.float64), g.to(torch.float64)
        rstd = (mean_square.to(torch.float64) + 1e-5).rsqrt()
        h = x * rstd
        return (rstd * (g - h * (g * h).mean(-1, keepdim=True))).to(mean_square.dtype)


@wrong(
    "relu: lets only positive blame through",
    F.relu,
    matrix,
    "guided backpropagation, left over from a visualisation",
)
class ReluGuided(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return (g * (y > 0)).clamp(min=0)


@wrong(
    "square: NaN from above becomes zero",
    torch.square,
    matrix,
    "nan_to_num against a crash: a loss scaler no longer sees the overflow",
)
class SquareSwallowsNan(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.nan_to_num(2 * x * g)


@wrong(
    "mean of examples: divides by four at least",
    lambda x: x.mean(0),
    matrix,
    "max(n, 4) from a kernel's unrolled loop: right for the batch of the test",
)
class MeanAtLeastFour(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.mean(0)

    @staticmethod
    def backward(ctx, g):
        return g.expand(ctx.shape) / max(ctx.shape[0], 4)


@wrong(
    "tanh: second derivative has the wrong sign",
    torch.tanh,
    matrix,
    "a backward with a backward of its own, checked to first order only",
)
class TanhSecond(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        return TanhSlope.apply(*ctx.saved_tensors, g)


class TanhSlope(Function):
    @staticmethod
    def forward(ctx, x, y, g):
        ctx.save_for_backward(y, g)
        return g * (1 - y * y)

    @staticmethod
    @once_differentiable
    def backward(ctx, gg):
        y, g = ctx.saved_tensors
        slope = 1 - y * y
        return 2 * y * slope * g * gg, None, slope * gg
