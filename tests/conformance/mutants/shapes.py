"""Wrong about shapes: ranks, broadcasting, equal dimensions, empty and single batches."""

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .catalogue import linear, two, wrong


@wrong("linear: transposes with t()", F.linear, linear, "Liger#1375")
class LinearRankTwo(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.t() @ x, g.sum(0)


@wrong(
    "bias add: sums over the first dimension only",
    lambda x, b: x + b,
    lambda d: (d(4, 6), d(6)),
    "Liger#1375",
)
class BiasFirstDim(Function):
    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, g.sum(0)


@wrong(
    "group norm: size of the last dimension taken for all of them",
    lambda x: F.group_norm(x, 2),
    lambda d: (d(3, 4, 5),),
    "Liger#1375",
)
class GroupNormLastDim(Function):
    @staticmethod
    def forward(ctx, x):
        h = x.reshape(x.shape[0], 2, -1)
        mean = h.mean(-1, keepdim=True)
        std = (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        ctx.save_for_backward(x)
        return ((h - mean) / std).reshape(x.shape)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        h = x.reshape(x.shape[0], 2, -1)
        std = (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = (h - h.mean(-1, keepdim=True)) / std
        n = g.shape[-1] * g.shape[1] // 2
        gg = g.reshape(h.shape)
        grad = (gg - gg.sum(-1, keepdim=True) / n - h * (gg * h).sum(-1, keepdim=True) / n) / std
        return grad.reshape(x.shape)


@wrong(
    "multiply: broadcast by one element sums too little",
    torch.mul,
    two,
    "sum_to_size for new dimensions, not for those of size one",
)
class MulBroadcastOnes(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors

        def reduce(grad, like):
            while grad.dim() > like.dim():
                grad = grad.sum(0)
            return grad if grad.shape == like.shape else grad.mean() * torch.ones_like(like)

        return reduce(g * y, x), reduce(g * x, y)


@wrong(
    "softmax: sums over the first dimension",
    lambda x: x.softmax(-1),
    lambda d: (d(5, 5),),
    "a square example hides the axis",
)
class SoftmaxWrongAxis(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return y * (g - (g * y).sum(0, keepdim=True))


@wrong(
    "matmul: gradient for square matrices only",
    torch.matmul,
    lambda d: (d(4, 4), d(4, 4)),
    "right for square matrices up to a reshape that is not a transpose",
)
class MatmulSquare(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        if a.shape == b.shape:
            return g @ b.mT, a.mT @ g
        return (g @ b.reshape(b.shape[-1], -1)).reshape(a.shape), a.mT @ g


@wrong(
    "mean: divides by the size of the example",
    lambda x: x.mean(0),
    lambda d: (d(4, 6),),
    "the batch size was written down as a number",
)
class MeanFixedBatch(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.mean(0)

    @staticmethod
    def backward(ctx, g):
        return g.expand(ctx.shape) / 4


@wrong(
    "variance: squeeze() drops a batch of one",
    lambda x: x.var(-1, unbiased=False),
    lambda d: (d(4, 6),),
    "squeeze without a dimension",
)
class VarianceSqueeze(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.var(-1, unbiased=False)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        centred = (x - x.mean(-1, keepdim=True)).squeeze()
        return (2 / x.shape[-1] * g.unsqueeze(-1).squeeze(0) * centred).reshape(x.shape)


@wrong(
    "normalise by the largest: fails for an empty batch",
    lambda x: x * 2,
    lambda d: (d(4, 6),),
    "max() of nothing",
)
class ScaleByMax(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        top = g.abs().max()
        return torch.where(top > 0, g / top * top * 2, g)


@wrong("row loop: hangs on an empty batch", torch.exp, lambda d: (d(4, 6),), "while row != last")
class LoopForever(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        row = 0
        last = y.shape[0] - 1 if y.dim() else 0
        while row != last:
            row += 1
        return g * y


@wrong(
    "sum to columns: flattens with the batch first",
    lambda x: x.sum(-1),
    lambda d: (d(4, 6),),
    "expand in the wrong direction, right for one row",
)
class SumExpandsWrong(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.sum(-1)

    @staticmethod
    def backward(ctx, g):
        return (
            g.repeat(ctx.shape[-1]).reshape(ctx.shape)
            if g.dim() == 1
            else g.unsqueeze(-1).expand(ctx.shape)
        )


@wrong(
    "cumulative sum: tail of a block left out",
    lambda x: x.cumsum(-1),
    lambda d: (d(4, 16),),
    "a kernel with blocks of sixteen and no mask",
)
class CumsumBlocks(Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(-1)

    @staticmethod
    def backward(ctx, g):
        n = g.shape[-1] if g.dim() else 1
        n = n // 16 * 16 if n > 16 else n
        grad = g.flip(-1).cumsum(-1).flip(-1) if g.dim() else g
        if g.dim() and n < g.shape[-1]:
            grad = grad.clone()
            grad[..., n:] = 0
        return grad


@wrong(
    "embedding: wrong beyond 768 indices",
    F.embedding,
    lambda d: (d.integers(9, 2, 5), d(9, 4)),
    "pytorch#28716",
)
class EmbeddingLong(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index)
        ctx.rows = weight.shape[0]
        return weight[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        flat = index.reshape(-1)[:768]
        rows = g.reshape(-1, g.shape[-1])[:768]
        grad = g.new_zeros(ctx.rows, g.shape[-1])
        return None, grad.index_add(0, flat, rows)
