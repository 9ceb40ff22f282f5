"""Wrong about memory: strides, other people's tensors, aliases."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import linear, matrix, two, wrong


def raw(x: Tensor) -> Tensor:
    """What a kernel reads that walks through memory as if ``x`` were contiguous."""
    x = x.detach()
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())[x.storage_offset() :]
    if not x.numel():
        return x.clone()
    return memory[torch.arange(x.numel()) % memory.numel()].view(x.shape)


@wrong("square: grad_output read as contiguous", torch.square, matrix, "pytorch#194719")
class SquareRawGrad(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * raw(g)


@wrong("silu: input read as contiguous", F.silu, matrix, "optimized-fused-ssim#1")
class SiluRawInput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        x = raw(x)
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


@wrong(
    "attention scores: grad read with the strides of the output",
    lambda q, k: q @ k.transpose(-1, -2),
    lambda d: (d(2, 3, 4), d(2, 5, 4)),
    "flash-attention#355",
)
class ScoresOutputStrides(Function):
    @staticmethod
    def forward(ctx, q, k):
        ctx.save_for_backward(q, k)
        y = q @ k.transpose(-1, -2)
        ctx.strides = y.stride()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        q, k = ctx.saved_tensors
        memory = torch.empty(0, dtype=g.dtype).set_(g.untyped_storage())
        need = sum((n - 1) * s for n, s in zip(g.shape, ctx.strides, strict=True)) + 1
        memory = memory.repeat(1 + (need + g.storage_offset()) // max(memory.numel(), 1))
        g = memory.as_strided(g.shape, ctx.strides, g.storage_offset())
        return g @ k, g.transpose(-1, -2) @ q


@wrong("mean over the last dim: grad read as contiguous", lambda x: x.mean(-1), matrix, "nn#345")
class MeanRawGrad(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return (raw(g) / ctx.shape[-1]).unsqueeze(-1).expand(ctx.shape)


@wrong("mse: scalar grad read element by element", F.mse_loss, two, "FlagGems#5212")
class MseReadsPastScalar(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return (x - target).square().mean()

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        spread = torch.zeros(x.numel(), dtype=x.dtype)
        spread[:1] = g
        grad = 2 / x.numel() * (x - target) * spread.view(x.shape)
        return grad, -grad


@wrong("linear: grad_output.view(-1, n)", F.linear, lambda d: (d(2, 3, 6), d(5, 6)), "apex#1601")
class LinearViewsGrad(Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        g2, x2 = g.view(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        return (g2 @ weight).view(x.shape), g2.t() @ x2


@wrong(
    "cdist: backward insists on contiguous inputs",
    lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist"),
    lambda d: (d(4, 3), d(5, 3)),
    "pytorch#69997",
)
class CdistContiguous(Function):
    @staticmethod
    def forward(ctx, x, y):
        out = (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()
        ctx.save_for_backward(x, y, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y, out = ctx.saved_tensors
        x, y = x.view(*x.shape[:-1], 1, x.shape[-1]), y.view(1, *y.shape)
        raw_y = y.view(-1).view(y.shape)
        scaled = torch.where(out == 0, 0.0, g / out).unsqueeze(-1) * (x - raw_y)
        return scaled.sum(-2), -scaled.sum(-3)


@wrong(
    "reshape: strides of an expanded input taken for real",
    lambda x: x.reshape(-1),
    matrix,
    "pytorch#30303",
)
class ReshapeExpanded(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape, ctx.strides = x.shape, x.stride()
        return x.reshape(-1).clone()

    @staticmethod
    def backward(ctx, g):
        if 0 in ctx.strides:
            return g.contiguous().as_strided(ctx.shape, ctx.strides)
        return g.reshape(ctx.shape)


@wrong(
    "group norm: weight gradient wrong for channels last",
    lambda x, w, b: F.group_norm(x, 2, w, b),
    lambda d: (d(2, 4, 3, 3), d(4), d(4)),
    "pytorch#140913",
)
class GroupNormChannelsLast(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        n, c = x.shape[:2]
        grouped = x.reshape(n, 2, -1)
        mean = grouped.mean(-1, keepdim=True)
        std = (grouped.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        shape = (1, c) + (1,) * (x.dim() - 2)
        hat = ((grouped - mean) / std).reshape(x.shape)
        ctx.save_for_backward(hat, std, weight)
        ctx.last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        ctx.plain = x.is_contiguous()
        return hat * weight.view(shape) + bias.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        hat, std, weight = ctx.saved_tensors
        n, c = g.shape[:2]
        over = (0, *range(2, g.dim()))
        grad_weight, grad_bias = (g * hat).sum(over), g.sum(over)
        if ctx.last and not ctx.plain:
            grad_weight = grad_weight.view(2, -1).t().reshape(-1)
        gh = (g * weight.view((1, c) + (1,) * (g.dim() - 2))).reshape(n, 2, -1)
        h = hat.reshape(n, 2, -1)
        grad = (gh - gh.mean(-1, keepdim=True) - h * (gh * h).mean(-1, keepdim=True)) / std
        return grad.reshape(g.shape), grad_weight, grad_bias


@wrong("swiglu: backward writes into its inputs", lambda a, b: F.silu(a) * b, two, "Liger#254")
class SwigluWritesInputs(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return F.silu(a) * b

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        a, b = (t.data for t in ctx.saved_tensors)
        s = torch.sigmoid(a)
        grad_a, grad_b = g * b * (s + a * s * (1 - s)), g * a * s
        a.copy_(grad_a)
        b.copy_(grad_b)
        return a, b


@wrong(
    "swiglu: results stored in each other's buffer", lambda a, b: F.silu(a) * b, two, "unsloth#3314"
)
class SwigluSwapped(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return F.silu(a) * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        s = torch.sigmoid(a)
        return g * a * s, g * b * (s + a * s * (1 - s))


@wrong(
    "softmax: saved output behind the back of the version counter",
    lambda x: x.softmax(-1),
    matrix,
    "pytorch#30454",
)
class SoftmaxDataStash(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.y = y.data
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        y = ctx.y
        return y * (g - (g * y).sum(-1, keepdim=True))


@wrong(
    "cross-entropy: forward writes the gradient over the logits",
    F.cross_entropy,
    lambda d: (d(5, 7), d.integers(7, 5)),
    "Liger#272",
)
class CrossEntropyOverLogits(Function):
    @staticmethod
    def forward(ctx, x, target):
        logp = x.log_softmax(-1)
        rows = torch.arange(len(target))
        loss = -logp[rows, target].mean()
        grad = logp.exp()
        grad[rows, target] -= 1
        x.data.copy_(grad / len(target))
        ctx.save_for_backward(x)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@wrong("tanh: multiplies into grad_output", torch.tanh, matrix, "Liger#254")
class TanhMutatesGrad(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g.mul_(1 - y * y)


@wrong(
    "sigmoid: works in place on the saved output",
    torch.sigmoid,
    matrix,
    "to save a buffer, once the output is not needed any more",
)
class SigmoidMutatesOutput(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        y = ctx.saved_tensors[0].data
        one_minus = 1 - y
        return y.mul_(one_minus).mul_(g)


@wrong("relu: clamps its input in place", torch.relu, matrix, "nn#1180")
class ReluInPlace(Function):
    @staticmethod
    def forward(ctx, x):
        x.data.clamp_(min=0)
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


@wrong(
    "multiply: input kept as an attribute",
    torch.mul,
    two,
    "ctx.x = x is shorter than save_for_backward",
)
class MulAttribute(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.x, ctx.y = x, y
        return x * y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.y, g * ctx.x


@wrong(
    "scale: returns a tensor that it keeps",
    lambda x: 3 * x,
    matrix,
    "one buffer for the gradient of every call",
)
class ScaleSharedBuffer(Function):
    buffers: dict[object, Tensor] = {}  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        key = (tuple(g.shape), g.dtype)
        out = ScaleSharedBuffer.buffers.setdefault(key, torch.empty(g.shape, dtype=g.dtype))
        return torch.mul(g, 3, out=out)


@wrong(
    "dot with a weight: returns the weight itself",
    lambda x, w: (x * w).sum(),
    lambda d: (d(6), d(6)),
    "g is always one, so g * w is w",
)
class DotReturnsWeight(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return (x * w).sum()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        if bool((g == 1).all()):
            return w, x
        return g * w, g * x


@wrong("linear: weight gradient with fixed row stride", F.linear, linear, "pytorch#708")
class LinearAssumesRowMajor(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        inputs = raw(x).reshape(-1, x.shape[-1])
        return g @ weight, rows.t() @ inputs, rows.sum(0)


@wrong(
    "scale: by one, the input's memory is the output's",
    torch.mul,
    lambda d: (d(4, 6), 1.0),
    "nothing to compute, so nothing is copied",
)
class ScaleByOneAliases(Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.detach() if factor == 1 else x * factor

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None
