"""Wrong in low precision, and wrong about random numbers."""

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import linear, matrix, wrong


@wrong("linear: bias gradient summed in the input's precision", F.linear, linear, "llm.c#476")
class LinearBiasLow(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        total = torch.zeros(g.shape[-1], dtype=g.dtype)
        for row in rows:
            total = total + row
        return g @ weight, rows.t() @ x.reshape(-1, x.shape[-1]), total


@wrong(
    "rms norm: weight gradient accumulated in the input's precision",
    lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-6),
    lambda d: (d(4, 6), d(6)),
    "Liger#950",
)
class RmsNormLow(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.rms_norm(x, x.shape[-1:], weight, 1e-6)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        wide = torch.promote_types(x.dtype, torch.float32)
        xw = x.to(wide)
        r = (xw.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        gw = (g * weight).to(wide)
        grad = r * (gw - xw * r * r * (gw * xw).mean(-1, keepdim=True))
        grad_weight = torch.zeros_like(weight)
        for row in (g * (xw * r).to(x.dtype)).reshape(-1, x.shape[-1]):
            grad_weight += row
        return grad.to(x.dtype), grad_weight


@wrong(
    "group norm: float16 gradients rounded to bfloat16",
    lambda x, w: F.group_norm(x, 2, w),
    lambda d: (d(3, 4, 5), d(4)),
    "Liger#1253",
)
class GroupNormWrongHalf(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.group_norm(x, 2, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = (t.detach() for t in ctx.saved_tensors)
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.enable_grad():
            a, b = x.to(wide).requires_grad_(), weight.to(wide).requires_grad_()
            y = F.group_norm(a, 2, b)
        grad, grad_weight = torch.autograd.grad(y, (a, b), g.to(wide))
        if x.dtype == torch.float16:
            grad_weight = grad_weight.bfloat16()
        return grad.to(x.dtype), grad_weight.to(x.dtype)


@wrong("sine: computed in float32 inside", torch.sin, matrix, "pytorch#5351")
class SinFloat32(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(ctx.saved_tensors[0].float()).to(g.dtype)


@wrong(
    "multiply: saves a half precision copy",
    lambda x: x**2,
    matrix,
    "to halve the memory of activations",
)
class SquareSavesHalf(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.bfloat16())
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0].to(g.dtype)


@wrong(
    "variance: one pass, cancels at a large mean",
    lambda x: x.var(-1, unbiased=False),
    matrix,
    "as in a widely read annotated BatchNorm",
)
class VarianceOnePass(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        if x.dim() == 0:
            return x * 0
        return x.square().mean(-1) - x.mean(-1).square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.dim() == 0:
            return 0 * g
        return 2 / x.shape[-1] * g.unsqueeze(-1) * (x - x.mean(-1, keepdim=True))


@wrong("exp: a small constant against underflow", torch.exp, matrix, "pytorch#114234")
class ExpEpsilon(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] + 1e-8)


@wrong("cosine: derivative off by one part in a million", torch.cos, matrix, "pytorch#57166")
class CosPartInMillion(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.cos(x)

    @staticmethod
    def backward(ctx, g):
        return -g * torch.sin(ctx.saved_tensors[0]) * (1 + 1e-6)


def dropout(x):
    return F.dropout(x, 0.3)


@wrong(
    "dropout: a new mask in the backward",
    dropout,
    matrix,
    "the mask is drawn again, without the seed",
)
class DropoutRedraws(Function):
    @staticmethod
    def forward(ctx, x):
        return x * (torch.empty_like(x).bernoulli_(0.7) / 0.7)

    @staticmethod
    def backward(ctx, g):
        return g * (torch.empty_like(g).bernoulli_(0.7) / 0.7)


@wrong("dropout: not scaled in the backward", dropout, matrix, "1/(1-p) in the forward only")
class DropoutUnscaled(Function):
    @staticmethod
    def forward(ctx, x):
        mask = torch.empty_like(x).bernoulli_(0.7)
        ctx.save_for_backward(mask)
        return x * (mask / 0.7)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


@wrong(
    "dropout: mask read off the zeros of the output",
    dropout,
    matrix,
    "a kept zero looks like a dropped one",
)
class DropoutMaskFromOutput(Function):
    @staticmethod
    def forward(ctx, x):
        y = x * (torch.empty_like(x).bernoulli_(0.7) / 0.7)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] != 0) / 0.7


@wrong(
    "square: noise in the gradient", torch.square, matrix, "stochastic rounding left switched on"
)
class SquareNoise(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x * (1 + 1e-12 * torch.rand_like(x))


@wrong(
    "tanh: reseeds the generator",
    torch.tanh,
    matrix,
    "manual_seed in the backward, so that a mask can be drawn again",
)
class TanhReseeds(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        torch.manual_seed(1234)
        return g * (1 - ctx.saved_tensors[0] ** 2)
