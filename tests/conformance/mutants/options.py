"""Wrong for another way to call: other options, other indices, an argument left out."""

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import matrix, wrong


@wrong(
    "convolution: dilation left out of the weight gradient",
    lambda x, w, dilation: F.conv1d(x, w, dilation=dilation),
    lambda d: (d(2, 3, 9), d(4, 3, 2), 1),
    "the example has a dilation of one",
)
class ConvolutionNoDilation(Function):
    @staticmethod
    def forward(ctx, x, w, dilation):
        ctx.save_for_backward(x, w)
        ctx.dilation = dilation
        return F.conv1d(x, w, dilation=dilation)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        grad_x = F.conv_transpose1d(g, w, dilation=ctx.dilation)
        windows = x.unfold(-1, w.shape[-1], 1)[..., : g.shape[-1], :]
        return grad_x, torch.einsum("nol,nilk->oik", g, windows), None


@wrong(
    "mse: divides for every reduction",
    lambda x, t, reduction: F.mse_loss(x, t, reduction=reduction),
    lambda d: (d(4, 6), d.fixed(4, 6), "mean"),
    "the string is looked at in the forward only",
)
class MseEveryReduction(Function):
    @staticmethod
    def forward(ctx, x, t, reduction):
        ctx.save_for_backward(x, t)
        return F.mse_loss(x, t, reduction=reduction)

    @staticmethod
    def backward(ctx, g):
        x, t = ctx.saved_tensors
        return 2 * (x - t) * g / x.numel(), None, None


@wrong(
    "rows by index: negative ones refused in the backward",
    lambda w, i: w[i],
    lambda d: (d(7, 3), d.integers(7, 5)),
    "w[-1] is a row, and index_add_ does not count from the end",
)
class RowsNegative(Function):
    @staticmethod
    def forward(ctx, w, i):
        ctx.save_for_backward(i)
        ctx.shape = w.shape
        return w[i]

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        grad = g.new_zeros(ctx.shape)
        return grad.index_add_(0, i.flatten(), g.reshape(-1, *ctx.shape[1:])), None


@wrong(
    "embedding: indices of 32 bits refused in the backward",
    lambda i, w: F.embedding(i, w),
    lambda d: (d.integers(7, 5), d(7, 3)),
    "one_hot wants int64, embedding takes both",
)
class EmbeddingOneHot(Function):
    @staticmethod
    def forward(ctx, i, w):
        ctx.save_for_backward(i)
        ctx.rows = len(w)
        return F.embedding(i, w)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        chosen = F.one_hot(i.reshape(-1), ctx.rows).to(g.dtype)
        return None, chosen.T @ g.reshape(-1, g.shape[-1])


@wrong(
    "embedding: a list of indices only",
    lambda i, w: F.embedding(i, w),
    lambda d: (d.integers(7, 5), d(7, 3)),
    "a batch of sentences has indices of two dimensions",
)
class EmbeddingOneDimension(Function):
    @staticmethod
    def forward(ctx, i, w):
        ctx.save_for_backward(i)
        ctx.shape = w.shape
        return F.embedding(i, w)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        return None, g.new_zeros(ctx.shape).index_add_(0, i, g)


@wrong(
    "softmax: dimension one, whatever was asked for",
    lambda x, dim: x.softmax(dim),
    lambda d: (d(4, 6), 1),
    "written for a matrix of logits",
)
class SoftmaxDimensionOne(Function):
    @staticmethod
    def forward(ctx, x, dim):
        y = x.softmax(dim)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(1, keepdim=True)), None


@wrong(
    "softmax: last dimension fixed as one",
    lambda x: x.softmax(-1),
    matrix,
    "Liger#1375: the same for a matrix, another for a batch of them",
)
class SoftmaxRankTwo(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        dim = 1 if y.dim() > 1 else 0
        return y * (g - (g * y).sum(dim, keepdim=True))


@wrong(
    "sum over one dimension: kept dimension not expected",
    lambda x, dim, keepdim: x.sum(dim, keepdim),
    lambda d: (d(4, 6), 1, False),
    "unsqueeze of a dimension that is still there",
)
class SumKeepdim(Function):
    @staticmethod
    def forward(ctx, x, dim, keepdim):
        ctx.shape, ctx.dim = x.shape, dim
        return x.sum(dim, keepdim)

    @staticmethod
    def backward(ctx, g):
        g = g.unsqueeze(ctx.dim)
        return (g if g.dim() <= len(ctx.shape) else g[0]).expand(ctx.shape), None, None


@wrong(
    "row sum: one block of 1024 threads",
    lambda x: x.sum(-1),
    matrix,
    "a row that is longer than a block gets no gradient at its end",
)
class RowSumOneBlock(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        grad = g.new_zeros(ctx.shape)
        grad[..., :1024] = g[..., None]
        return grad


@wrong(
    "sine and cosine: the second alone has the wrong sign",
    lambda x: (torch.sin(x), torch.cos(x)),
    matrix,
    "a branch of its own for an unused first output, never run by a loss on both",
)
class SineCosineSecondAlone(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return torch.sin(x), torch.cos(x)

    @staticmethod
    def backward(ctx, g_sin, g_cos):
        (x,) = ctx.saved_tensors
        if g_sin is None:
            return g_cos * torch.sin(x)
        grad = g_sin * torch.cos(x)
        return grad if g_cos is None else grad - g_cos * torch.sin(x)
