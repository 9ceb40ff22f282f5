"""Wrong about indices: repeated, padding, order, range."""

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .catalogue import matrix, wrong


def words(d):
    return d.integers(9, 2, 4), d(9, 5)


@wrong(
    "embedding: repeated rows overwrite each other",
    F.embedding,
    lambda d: (torch.tensor([1, 4, 2, 7]), d(9, 5)),
    "tt-metal#6232",
)
class EmbeddingOverwrites(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        grad = g.new_zeros(ctx.shape)
        grad[index] = g
        return None, grad


@wrong(
    "embedding: padding row gets a gradient",
    lambda i, w: F.embedding(i, w, padding_idx=0),
    words,
    "pytorch#26302",
)
class EmbeddingPadding(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return None, g.new_zeros(ctx.shape).index_put((index,), g, accumulate=True)


@wrong(
    "embedding: negative padding index not counted from the end",
    lambda i, w: F.embedding(i, w, padding_idx=-1),
    words,
    "pytorch#93950",
)
class EmbeddingNegativePadding(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        g = torch.where((index == -1).unsqueeze(-1), 0.0, g)
        return None, g.new_zeros(ctx.shape).index_put((index,), g, accumulate=True)


@wrong("embedding: index kept in eight bits", F.embedding, words, "a compact save of the index")
class EmbeddingBytes(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index.to(torch.uint8))
        ctx.shape = weight.shape
        return weight[index]

    @staticmethod
    def backward(ctx, g):
        index = ctx.saved_tensors[0].long()
        return None, g.new_zeros(ctx.shape).index_put((index,), g, accumulate=True)


@wrong(
    "gather: scatter without add",
    lambda x, i: x.gather(-1, i),
    lambda d: (d(4, 6), torch.tensor([[0, 3], [1, 2], [5, 4], [2, 0]])),
    "FlagGems#4295",
)
class GatherScatter(Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x.gather(-1, index)

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return g.new_zeros(ctx.shape).scatter(-1, index, g), None


@wrong(
    "sort: permutation in place of its inverse",
    lambda x: x.sort(-1).values,
    matrix,
    "gather with the indices of the sort",
)
class SortInverse(Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.sort(-1)
        ctx.save_for_backward(index)
        return values

    @staticmethod
    def backward(ctx, g):
        return g.gather(-1, ctx.saved_tensors[0])


@wrong(
    "flip and roll: rolls the same way back",
    lambda x: x.roll(1, -1),
    matrix,
    "right where half the length is rolled",
)
class RollSameWay(Function):
    @staticmethod
    def forward(ctx, x):
        return x.roll(1, -1)

    @staticmethod
    def backward(ctx, g):
        return g.roll(1, -1)


@wrong(
    "index select: gradient of masked rows not zero",
    lambda x, m: x * m,
    lambda d: (d(4, 6), torch.tensor([[True], [False], [True], [True]])),
    "empty() in place of zeros()",
)
class MaskedNotZero(Function):
    @staticmethod
    def forward(ctx, x, mask):
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return torch.where(mask, g, g * 1e-3), None


@wrong(
    "masked fill: a fully masked row divides by zero",
    lambda x, m: torch.where(m, x, 0.0).sum(-1) / m.sum(-1).clamp_min(1),
    lambda d: (d(4, 6), d.fixed(4, 6) > -0.5),
    "count of nothing",
)
class MaskedMean(Function):
    @staticmethod
    def forward(ctx, x, mask):
        ctx.save_for_backward(mask)
        return torch.where(mask, x, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return (g / mask.sum(-1)).unsqueeze(-1) * mask, None


@wrong(
    "repeat: sums over the wrong copies",
    lambda x: x.repeat(2, 1),
    matrix,
    "repeat taken for repeat_interleave",
)
class RepeatInterleaved(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.repeat(2, 1)

    @staticmethod
    def backward(ctx, g):
        return g.reshape(ctx.shape[0], 2, *ctx.shape[1:]).sum(1)
