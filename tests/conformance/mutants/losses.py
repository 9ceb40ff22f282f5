"""Wrong about losses: reductions, weights, what comes from above."""

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .catalogue import classes, two, wrong


def softmax_minus_onehot(x, target):
    return x.softmax(-1) - F.one_hot(target, x.shape[-1])


@wrong(
    "cross-entropy: ignores what comes from above",
    F.cross_entropy,
    classes,
    "nn-zero-to-hero#45: checked with a loss whose upstream gradient is one",
)
class CrossEntropyNoUpstream(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return softmax_minus_onehot(x, target) / len(target), None


@wrong(
    "cross-entropy: one upstream value for all rows",
    lambda x, t: F.cross_entropy(x, t, reduction="none"),
    classes,
    "Liger#968",
)
class CrossEntropyFirstUpstream(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, reduction="none")

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g.reshape(-1)[:1] * softmax_minus_onehot(x, target), None


@wrong(
    "cross-entropy: ignored rows counted in the mean",
    lambda x, t: F.cross_entropy(x, t, ignore_index=2),
    classes,
    "FlagGems#73",
)
class CrossEntropyCountsIgnored(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, ignore_index=2)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        kept = (target != 2).unsqueeze(-1)
        return g * softmax_minus_onehot(x, target) * kept / len(target), None


@wrong("cross-entropy: gradient not divided by the batch", F.cross_entropy, classes, "llm.c#408")
class CrossEntropyNotDivided(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g * softmax_minus_onehot(x, target), None


@wrong(
    "cross-entropy: class weights left out of the divisor",
    lambda x, t, w: F.cross_entropy(x, t, w),
    lambda d: (d(5, 7), d.integers(7, 5), d.uniform(7, low=0.5, high=2.0)),
    "divides by N instead of by the sum of the weights",
)
class CrossEntropyWeightDivisor(Function):
    @staticmethod
    def forward(ctx, x, target, weight):
        ctx.save_for_backward(x, target, weight)
        return F.cross_entropy(x, target, weight)

    @staticmethod
    def backward(ctx, g):
        x, target, weight = ctx.saved_tensors
        scale = weight[target].unsqueeze(-1) / len(target)
        return g * softmax_minus_onehot(x, target) * scale, None, None


@wrong(
    "smooth labels: smoothing forgotten in the gradient",
    lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1),
    classes,
    "the forward has it, the backward is the old one",
)
class CrossEntropyNoSmoothing(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.cross_entropy(x, target, label_smoothing=0.1)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g * softmax_minus_onehot(x, target) / len(target), None


@wrong("mse: factor two forgotten", F.mse_loss, two, "the half of the textbook's definition")
class MseHalf(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.mse_loss(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        grad = g * (x - target) / x.numel()
        return grad, -grad


@wrong("mse: divides by rows instead of elements", F.mse_loss, two, "DML-OpenProblem#358")
class MseByRows(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.mse_loss(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        grad = 2 * g * (x - target) / x.shape[0]
        return grad, -grad


@wrong("mse: target gets no gradient", F.mse_loss, two, "targets are data, it was thought")
class MseTargetNone(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.mse_loss(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return 2 * g * (x - target) / x.numel(), None


@wrong(
    "kl divergence: gradient of the target forgotten its log",
    lambda x, t: F.kl_div(x, t, reduction="sum"),
    lambda d: (d(4, 6), d.uniform(4, 6, low=0.1, high=0.9).requires_grad_()),
    "product rule applied to one factor",
)
class KlDivTarget(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.kl_div(x, target, reduction="sum")

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return -g * target, g * (target.log() - x)


@wrong(
    "bce with logits: sign of the target",
    F.binary_cross_entropy_with_logits,
    lambda d: (d(4, 6), d.uniform(4, 6)),
    "target minus prediction",
)
class BceSign(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.binary_cross_entropy_with_logits(x, target)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        return g * (target - torch.sigmoid(x)) / x.numel(), None


@wrong(
    "huber: constant gradient does not know delta",
    lambda x, t: F.huber_loss(x, t, delta=0.5),
    two,
    "delta was one in the test",
)
class HuberDelta(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.huber_loss(x, target, delta=0.5)

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        difference = x - target
        grad = g * torch.where(difference.abs() <= 0.5, difference, difference.sign()) / x.numel()
        return grad, -grad


@wrong(
    "cosine similarity: second norm detached",
    F.cosine_similarity,
    two,
    "as if the other vector were a constant of norm one",
)
class CosineNorm(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return F.cosine_similarity(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        nx, ny = x.norm(dim=1, keepdim=True), y.norm(dim=1, keepdim=True)
        cos = (x * y).sum(1, keepdim=True) / (nx * ny)
        g = g.unsqueeze(1)
        return g * (y / (nx * ny) - cos * x / nx**2), g * (x / (nx * ny) - cos * y / nx**2)
