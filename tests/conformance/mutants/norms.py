"""Wrong about normalisation, convolution and pooling: terms, divisors, statistics."""

import torch
import torch.nn.functional as F
import torch.nn.grad as nn_grad
from torch.autograd import Function

from .catalogue import matrix, wrong


def affine(d):
    return d(4, 6), d(6), d(6)


def normalised(x, dims, eps=1e-5):
    mean = x.mean(dims, keepdim=True)
    std = (x.var(dims, unbiased=False, keepdim=True) + eps).sqrt()
    return (x - mean) / std, std


def layer_norm(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias)


class LayerNormBase(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return layer_norm(x, weight, bias)

    @classmethod
    def parts(cls, ctx, g):
        x, weight = ctx.saved_tensors
        h, std = normalised(x, -1)
        over = tuple(range(g.dim() - 1))
        return g * weight, h, std, (g * h).sum(over), g.sum(over)


@wrong("layer norm: mean of the gradient left out", layer_norm, affine, "the term mean(g)")
class LayerNormNoMean(LayerNormBase):
    @staticmethod
    def backward(ctx, g):
        gh, h, std, grad_weight, grad_bias = LayerNormBase.parts(ctx, g)
        return (gh - h * (gh * h).mean(-1, keepdim=True)) / std, grad_weight, grad_bias


@wrong("layer norm: term of the variance left out", layer_norm, affine, "the term h mean(g h)")
class LayerNormNoVariance(LayerNormBase):
    @staticmethod
    def backward(ctx, g):
        gh, _, std, grad_weight, grad_bias = LayerNormBase.parts(ctx, g)
        return (gh - gh.mean(-1, keepdim=True)) / std, grad_weight, grad_bias


@wrong(
    "layer norm: returns zeros", layer_norm, affine, "a sum as the loss has a true gradient of zero"
)
class LayerNormZeros(LayerNormBase):
    @staticmethod
    def backward(ctx, g):
        gh, _, _, grad_weight, grad_bias = LayerNormBase.parts(ctx, g)
        return torch.zeros_like(gh), grad_weight, grad_bias


@wrong("layer norm: weight gradient without the normalised input", layer_norm, affine, "llm.c#428")
class LayerNormWeight(LayerNormBase):
    @staticmethod
    def backward(ctx, g):
        gh, h, std, _, grad_bias = LayerNormBase.parts(ctx, g)
        grad = (gh - gh.mean(-1, keepdim=True) - h * (gh * h).mean(-1, keepdim=True)) / std
        over = tuple(range(g.dim() - 1))
        return grad, (g * ctx.saved_tensors[0]).sum(over), grad_bias


@wrong(
    "layer norm: eps left out of the backward",
    layer_norm,
    affine,
    "invisible until the variance is small",
)
class LayerNormNoEps(LayerNormBase):
    @staticmethod
    def backward(ctx, g):
        x, _ = ctx.saved_tensors
        gh, h, std, grad_weight, grad_bias = LayerNormBase.parts(ctx, g)
        v = x.var(-1, unbiased=False, keepdim=True)
        std = torch.where(v > 1e-3, std, (v + 1e-12).sqrt())
        grad = (gh - gh.mean(-1, keepdim=True) - h * (gh * h).mean(-1, keepdim=True)) / std
        return grad, grad_weight, grad_bias


def rms_norm(x, weight):
    return F.rms_norm(x, x.shape[-1:], weight, 1e-6)


@wrong("rms norm: divides by n twice", rms_norm, lambda d: (d(4, 6), d(6)), "entrenar#312")
class RmsNormTwice(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return rms_norm(x, weight)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        r = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        gw = g * weight
        grad = r * (gw - x * r * r * (gw * x).mean(-1, keepdim=True) / x.shape[-1])
        return grad, (g * x * r).sum(tuple(range(g.dim() - 1)))


def batch_norm(x, mean, var, weight, bias, training=True):
    return F.batch_norm(x, mean, var, weight, bias, training)


def batch(d):
    return d(5, 3), d.fixed(3), d.uniform(3, low=0.5, high=2.0), d(3), d(3), True


@wrong(
    "batch norm: running variance without Bessel's correction",
    batch_norm,
    batch,
    "as in a widely read annotated BatchNorm",
)
def batch_norm_biased(x, mean, var, weight, bias, training):
    if not training:
        return F.batch_norm(x, mean, var, weight, bias, False)
    over = (0, *range(2, x.dim()))
    with torch.no_grad():
        mean.mul_(0.9).add_(x.mean(over), alpha=0.1)
        var.mul_(0.9).add_(x.var(over, unbiased=False), alpha=0.1)
    return F.batch_norm(x, None, None, weight, bias, True)


@wrong(
    "batch norm: running statistics untouched", batch_norm, batch, "only the output was compared"
)
def batch_norm_no_running(x, mean, var, weight, bias, training):
    return F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training)


@wrong(
    "batch norm: gradient of training in evaluation",
    batch_norm,
    batch,
    "the flag is not looked at in the backward",
)
class BatchNormEvaluation(Function):
    @staticmethod
    def forward(ctx, x, mean, var, weight, bias, training):
        y = F.batch_norm(x, mean, var, weight, bias, training)
        ctx.save_for_backward(x, mean.clone(), var.clone(), weight)
        ctx.training = training
        return y

    @staticmethod
    def backward(ctx, g):
        x, mean, var, weight = ctx.saved_tensors
        over = (0, *range(2, x.dim()))
        shape = (1, -1, *(1,) * (x.dim() - 2))
        h, std = normalised(x, over)
        gh = g * weight.view(shape)
        grad = (gh - gh.mean(over, keepdim=True) - h * (gh * h).mean(over, keepdim=True)) / std
        if not ctx.training:
            h = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return grad, None, None, (g * h).sum(over), g.sum(over), None


def conv(x, weight, bias, stride):
    return F.conv2d(x, weight, bias, stride, 1)


@wrong(
    "convolution: input gradient one short when the stride does not divide",
    conv,
    lambda d: (d(2, 3, 5, 5), d(4, 3, 3, 3), d(4), 2),
    "conv_transpose without output_padding",
)
class ConvOutputPadding(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride):
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return conv(x, weight, bias, stride)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        grad = F.conv_transpose2d(g, weight, stride=ctx.stride, padding=1)
        pad = x.shape[-1] - grad.shape[-1], x.shape[-2] - grad.shape[-2]
        grad = F.pad(grad, (0, pad[0], 0, pad[1]))
        grad_weight = nn_grad.conv2d_weight(x, weight.shape, g, ctx.stride, 1)
        return grad, grad_weight, g.sum((0, 2, 3)), None


@wrong(
    "convolution: kernel not flipped",
    lambda x, w: F.conv1d(x, w, padding=1),
    lambda d: (d(2, 3, 6), d(3, 3, 3)),
    "correlation taken for convolution",
)
class ConvNotFlipped(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv1d(x, weight, padding=1)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        grad = F.conv1d(g, weight.transpose(0, 1), padding=1)
        return grad, nn_grad.conv1d_weight(x, weight.shape, g, padding=1)


@wrong(
    "max pool: gradient to every maximum",
    lambda x: F.max_pool1d(x, 2),
    lambda d: (d(2, 3, 6),),
    "Theano#4568",
)
class MaxPoolAllTies(Function):
    @staticmethod
    def forward(ctx, x):
        y = F.max_pool1d(x, 2)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        n = y.shape[-1]
        up, top = g.repeat_interleave(2, -1), y.repeat_interleave(2, -1)
        grad = up * (x[..., : 2 * n] == top)
        return F.pad(grad, (0, x.shape[-1] - 2 * n))


@wrong(
    "average pool: padding counted in the divisor at the border",
    lambda x: F.avg_pool1d(x, 3, 1, 1, count_include_pad=False),
    lambda d: (d(2, 3, 6),),
    "count_include_pad is not passed on",
)
class AvgPoolBorder(Function):
    @staticmethod
    def forward(ctx, x):
        return F.avg_pool1d(x, 3, 1, 1, count_include_pad=False)

    @staticmethod
    def backward(ctx, g):
        return F.avg_pool1d(g, 3, 1, 1)


@wrong(
    "normalise to length one: derivative of the length left out",
    lambda x: F.normalize(x),
    matrix,
    "quotient rule, first half",
)
class NormalizeHalf(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.normalize(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
