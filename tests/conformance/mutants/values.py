"""Wrong for some values only: zeros, kinks, ties, tails, overflow."""

import torch
import torch.nn.functional as F
from torch.autograd import Function

from .catalogue import matrix, two, wrong


def elementwise(name, reference, source, derivative):
    """A wrong derivative of an elementwise function."""

    class Elementwise(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return reference(x)

        @staticmethod
        def backward(ctx, g):
            return g * derivative(ctx.saved_tensors[0])

    return wrong(name, reference, matrix, source)(Elementwise)


elementwise("relu: one at zero", torch.relu, "pytorch#184572", lambda x: (x >= 0).to(x))
elementwise(
    "relu6: one at both ends", F.relu6, "pytorch#184574", lambda x: ((x >= 0) & (x <= 6)).to(x)
)
elementwise(
    "clamp: the other choice at the bounds",
    lambda x: x.clamp(-1, 1),
    "pytorch#7049",
    lambda x: (
        ((x > -1) & (x < 1)).to(x)
        if torch.autograd.functional.vjp(lambda t: t.clamp(-1, 1), torch.ones(()))[1] > 0
        else ((x >= -1) & (x <= 1)).to(x)
    ),
)
elementwise(
    "abs: minus one at zero",
    torch.abs,
    "x / |x| replaced by a comparison",
    lambda x: torch.where(x > 0, torch.ones_like(x), -1.0),
)
elementwise(
    "hardtanh: slope at the upper bound",
    F.hardtanh,
    "nn#1180",
    lambda x: ((x > -1) & (x <= 1)).to(x),
)
elementwise(
    "leaky relu: slope one at zero",
    F.leaky_relu,
    ">= in place of >",
    lambda x: torch.where(x >= 0, torch.ones_like(x), 0.01),
)
elementwise(
    "sigmoid: exp(x) overflows",
    torch.sigmoid,
    "exp(x) / (1 + exp(x))^2",
    lambda x: x.exp() / (1 + x.exp()) ** 2,
)
elementwise(
    "softplus: exp overflows",
    F.softplus,
    "exp(x) / (1 + exp(x))",
    lambda x: x.exp() / (1 + x.exp()),
)
elementwise(
    "gelu: tanh form in the backward only",
    F.gelu,
    "close enough, it was thought",
    lambda x: torch.func.vmap(torch.func.grad(lambda t: F.gelu(t, approximate="tanh")))(
        x.reshape(-1)
    ).view(x.shape),
)
elementwise(
    "gelu: density without its constant",
    F.gelu,
    "1/sqrt(2 pi) forgotten",
    lambda x: 0.5 * (1 + torch.erf(x / 2**0.5)) + x * torch.exp(-x * x / 2),
)
elementwise(
    "sinc: zero over zero",
    torch.sinc,
    "quotient without its limit",
    lambda x: (torch.cos(torch.pi * x) - torch.sinc(x)) / x,
)
elementwise(
    "square root of square: not at zero",
    lambda x: (x * x + 1e-12).sqrt(),
    "x / |x| where the forward has an epsilon",
    lambda x: x / x.abs(),
)
elementwise(
    "tanh: gradient cut where it is small",
    torch.tanh,
    "a threshold to keep the gradient sparse",
    lambda x: torch.where(x.abs() > 3, 0.0, 1 - x.tanh() ** 2),
)
elementwise(
    "silu: clipped for large input",
    F.silu,
    "a clamp against overflow in half precision",
    lambda x: (lambda c: torch.sigmoid(c) * (1 + c * (1 - torch.sigmoid(c))))(x.clamp(-4, 4)),
)
elementwise(
    "elu: derivative from the wrong side",
    F.elu,
    "exp(x) below, and at, zero is fine; x * exp(x) is not",
    lambda x: torch.where(x > 0, 1.0, x * x.exp()),
)
elementwise(
    "hardswish: quadratic part to plus four",
    F.hardswish,
    "bound copied from relu6",
    lambda x: torch.where(x <= -3, 0.0, torch.where(x <= 4, x / 3 + 0.5, 1.0)),
)
elementwise(
    "square: gradient clipped to three",
    torch.square,
    "clipping built into the operation",
    lambda x: (2 * x).clamp(-8, 8),
)


@wrong(
    "square: large upstream gradients clipped",
    torch.square,
    matrix,
    "clipping built into the backward",
)
class SquareClipsUpstream(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g.clamp(-10, 10)


@wrong("product: divides by the input", lambda x: x.prod(-1), matrix, "pytorch#773")
class ProdDivides(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.prod(-1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.dim() == 0:
            return g
        return (g * x.prod(-1)).unsqueeze(-1) / x


@wrong(
    "cumulative product: divides by the input", lambda x: x.cumprod(-1), matrix, "tensorflow#3862"
)
class CumprodDivides(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.cumprod(-1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.dim() == 0:
            return g
        return (g * x.cumprod(-1)).flip(-1).cumsum(-1).flip(-1) / x


@wrong("norm: divides by zero", lambda x: x.norm(dim=-1), matrix, "tt-metal#54551")
class NormDivides(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.norm(dim=-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        if x.dim() == 0:
            return g * x / y
        return (g / y).unsqueeze(-1) * x


@wrong(
    "power: exponent zero at zero",
    torch.pow,
    lambda d: (
        d.uniform(4, 6, low=0.2, high=2.0).requires_grad_(),
        d.uniform(4, 6, low=0.5, high=3.0).requires_grad_(),
    ),
    "log(0) * 0",
)
class PowAtZero(Function):
    @staticmethod
    def forward(ctx, x, y):
        out = x**y
        ctx.save_for_backward(x, y)
        return out

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (g * y * x ** (y - 1)).sum_to_size(x.shape), (g * x**y * x.log()).sum_to_size(
            y.shape
        )


@wrong("maximum: all of the gradient to the first at a tie", torch.maximum, two, "pytorch#191142")
class MaximumTie(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return torch.maximum(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (g * (x >= y)).sum_to_size(x.shape), (g * (x < y)).sum_to_size(y.shape)


@wrong("amax: gradient to every tie in full", lambda x: x.amax(-1), matrix, "Theano#4568, amax")
class AmaxTies(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.amax(-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        if x.dim() == 0:
            return g
        return g.unsqueeze(-1) * (x == y.unsqueeze(-1))


@wrong(
    "l1 loss: sign of zero taken as one",
    lambda x, t: F.l1_loss(x, t, reduction="sum"),
    two,
    "pytorch#7002",
)
class L1Tie(Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        return F.l1_loss(x, target, reduction="sum")

    @staticmethod
    def backward(ctx, g):
        x, target = ctx.saved_tensors
        grad = g * torch.where(x >= target, torch.ones_like(x), -1.0)
        return grad.sum_to_size(x.shape), -grad.sum_to_size(target.shape)


@wrong(
    "softmax: gradient through the logarithm of the output",
    lambda x: x.softmax(-1),
    matrix,
    "NaN where a probability underflows to zero",
)
class SoftmaxThroughLog(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        p = y.log().exp() if not y.dim() else (y.log() - y.log().logsumexp(-1, keepdim=True)).exp()
        entropy = y * y.log()
        dot = (g * p).sum(-1, keepdim=True) if y.dim() else g * p
        return p * (g - dot) + entropy - entropy


@wrong(
    "log sum exp: no shift by the maximum in the backward",
    lambda x: x.logsumexp(-1),
    matrix,
    "exp overflows at 1000",
)
class LogsumexpOverflow(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.logsumexp(-1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = x.exp()
        if x.dim() == 0:
            return g * e / e
        return g.unsqueeze(-1) * e / e.sum(-1, keepdim=True)


@wrong("divide: sign of a negative divisor", torch.div, two, "divides by |y|^2 from |y|")
class DivNegative(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x / y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return (g / y).sum_to_size(x.shape), (-g * x / (y * y.abs())).sum_to_size(y.shape)
