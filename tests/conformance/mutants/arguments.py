"""Wrong about arguments and results: frozen inputs, several outputs, None, counts, options."""

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import linear, matrix, two, wrong


@wrong(
    "sign: one gradient for two inputs",
    lambda x, s: torch.sign(x) * s + x,
    lambda d: (d(4, 6), 2.0),
    "pytorch-image-comp-rnn#4",
)
class TooFewGradients(Function):
    @staticmethod
    def forward(ctx, x, scale):
        return torch.sign(x) * scale + x

    @staticmethod
    def backward(ctx, g):
        return g


@wrong(
    "linear: bias gradient saved only for the weight",
    F.linear,
    linear,
    "needs_input_grad read one place off",
)
class LinearNeedsShifted(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        needs = ctx.needs_input_grad
        grad_weight = rows.t() @ x.reshape(-1, x.shape[-1]) if needs[1] else None
        grad_bias = rows.sum(0) if needs[1] else None
        return g @ weight, grad_weight, grad_bias


@wrong(
    "multiply: saves only what a training input needs",
    torch.mul,
    two,
    "x is saved when x requires a gradient; y is what its gradient needs",
)
class MulSavesWrong(Function):
    @staticmethod
    def forward(ctx, x, y):
        needs = ctx.needs_input_grad
        ctx.save_for_backward(x if needs[0] else None, y if needs[1] else None)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        zero = torch.zeros_like(g)
        grad_x = g * y if y is not None else zero
        grad_y = g * x if x is not None else zero
        return grad_x.sum_to_size((ctx.needs_input_grad[0] and x.shape) or g.shape), (
            grad_y.sum_to_size((ctx.needs_input_grad[1] and y.shape) or g.shape)
        )


@wrong(
    "linear: frozen weight, no input gradient",
    F.linear,
    linear,
    "returns early when the weight is frozen",
)
class LinearFrozenEarly(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        if not ctx.needs_input_grad[1]:
            return None, None, None
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        return g @ weight, rows.t() @ x.reshape(-1, x.shape[-1]), rows.sum(0)


def sincos(x):
    return torch.sin(x), torch.cos(x)


@wrong(
    "sine and cosine: second output forgotten",
    sincos,
    matrix,
    "the loss of the test used the first one",
)
class SinCosForgets(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return sincos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        return gs * torch.cos(ctx.saved_tensors[0])


@wrong(
    "sine and cosine: trips over an unused output",
    sincos,
    matrix,
    "set_materialize_grads(False) and no look at None",
)
class SinCosNone(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return sincos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        (x,) = ctx.saved_tensors
        return gs * torch.cos(x) - gc * torch.sin(x)


@wrong(
    "sine and cosine: nothing when one output is unused",
    sincos,
    matrix,
    "None for the input when any gradient is None",
)
class SinCosGivesUp(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return sincos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        if gs is None or gc is None:
            return None
        (x,) = ctx.saved_tensors
        return gs * torch.cos(x) - gc * torch.sin(x)


@wrong(
    "sine and cosine: second output marked non-differentiable",
    sincos,
    matrix,
    "only the first one was meant to be trained",
)
class SinCosMarked(Function):
    @staticmethod
    def forward(ctx, x):
        s, c = sincos(x)
        ctx.save_for_backward(x)
        ctx.mark_non_differentiable(c)
        return s, c

    @staticmethod
    def backward(ctx, gs, gc):
        return gs * torch.cos(ctx.saved_tensors[0])


@wrong(
    "max with indices: values and gradient of the wrong output",
    lambda x: tuple(x.max(-1)),
    matrix,
    "pytorch#1712",
)
class MaxIndicesGradient(Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.max(-1)
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    def backward(ctx, g, _):
        (index,) = ctx.saved_tensors
        if not index.dim() and not ctx.shape:
            return g
        return g.new_zeros(ctx.shape).scatter(
            -1, index.unsqueeze(-1), g.mean().expand_as(index.unsqueeze(-1))
        )


@wrong(
    "add with alpha: alpha left out",
    lambda x, y, a: torch.add(x, y, alpha=a),
    lambda d: (d(4, 6), d(4, 6), 1.0),
    "alpha was one in the example",
)
class AddAlpha(Function):
    @staticmethod
    def forward(ctx, x, y, alpha):
        ctx.shapes = x.shape, y.shape
        return x + alpha * y

    @staticmethod
    def backward(ctx, g):
        return g.sum_to_size(ctx.shapes[0]), g.sum_to_size(ctx.shapes[1]), None


@wrong(
    "leaky relu: slope fixed in the backward",
    F.leaky_relu,
    lambda d: (d(4, 6), 0.01),
    "a constant from the forward's default",
)
class LeakyFixed(Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        return F.leaky_relu(x, slope)

    @staticmethod
    def backward(ctx, g):
        return g * torch.where(ctx.saved_tensors[0] > 0, torch.ones_like(g), 0.01), None


@wrong(
    "transpose: right for a square only",
    lambda x: 2 * x.transpose(-1, -2),
    lambda d: (d(5, 5),),
    "forgets to transpose back, the shapes agree",
)
class TransposeSquare(Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x.transpose(-1, -2)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


@wrong(
    "identity: zeros become None",
    lambda x: x * 0,
    matrix,
    "no gradient is the same as a zero one, it was thought",
)
class ZeroAsNone(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 0

    @staticmethod
    def backward(ctx, g):
        return None


@wrong(
    "gradients returned by size",
    lambda x, y: (x * y).sum(),
    lambda d: (d(6), d(6)),
    "sorted by shape: the right one for unequal shapes",
)
class DotSwapped(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return (x * y).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * x, g * y


@wrong(
    "linear: accumulates into weight.grad itself",
    F.linear,
    linear,
    "fused accumulation, and None for the engine",
)
class LinearOwnGrad(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        grad = rows.t() @ x.reshape(-1, x.shape[-1])
        if weight.grad is None:
            weight.grad = grad
        else:
            weight.grad += grad
        return g @ weight, None, rows.sum(0)
