"""Wrong about state: caches, stacks, settings, and whose call it was."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import linear, matrix, two, wrong

_TRANSPOSED: dict[int, Tensor] = {}


@wrong(
    "linear: transposed weight cached by its address",
    F.linear,
    linear,
    "an optimizer writes new numbers to the same address",
)
class LinearCachedByAddress(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        key = weight.data_ptr()
        if key not in _TRANSPOSED or _TRANSPOSED[key].shape != weight.t().shape:
            _TRANSPOSED[key] = weight.t().contiguous()
        grad_x = g @ _TRANSPOSED[key].t()
        return grad_x, g.flatten(0, -2).T @ x.flatten(0, -2), g.flatten(0, -2).sum(0)


@functools.cache
def _sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@wrong("silu: lru_cache on a helper", F.silu, matrix, "tensors are hashed by identity, and kept")
class SiluLruCache(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * _sigmoid(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


@wrong(
    "sine: inputs on a stack",
    torch.sin,
    matrix,
    "the backward was thought to run in the reverse order of the forwards",
)
class SineStack(Function):
    stack: list[Tensor] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        SineStack.stack.append(x.detach().clone())
        ctx.shape = x.shape
        return torch.sin(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x = SineStack.stack.pop() if SineStack.stack else g
        return g * torch.cos(x.expand(ctx.shape) if x.numel() == 1 else x[: len(g)])


@wrong(
    "square: saves x.data",
    torch.square,
    matrix,
    "pytorch#30454, from the forward's side: .data has a version counter of its own",
)
class SquareSavesData(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.data)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


@wrong(
    "exp: default dtype left at float64",
    torch.exp,
    matrix,
    "set_default_dtype for a precise constant, and no way back",
)
class ExpDefaultDtype(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        torch.set_default_dtype(torch.float64)
        return y * g * torch.tensor(1.0).to(y.dtype)


@wrong(
    "tanh: draws numbers that it does not use",
    torch.tanh,
    matrix,
    "noise that is multiplied by zero moves the generator: the next dropout differs",
)
class TanhDraws(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y * y) + 0.0 * torch.rand(())


@wrong(
    "silu: scales a contiguous cotangent in place",
    F.silu,
    matrix,
    "g.contiguous() is a copy only where it was not contiguous: Liger#254 again",
)
class SiluContiguousInPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g.contiguous().mul_(s + x * s * (1 - s))


@wrong(
    "square: storage offset of the cotangent ignored",
    torch.square,
    matrix,
    "a kernel gets the storage's pointer, and strides: right until grad is a chunk of another",
)
class SquareNoOffset(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g.as_strided(g.shape, g.stride(), 0)


@wrong(
    "bias add: gradient buffer with the strides of the bias",
    torch.add,
    lambda d: (d(4, 6), d(6)),
    "a bias that was expanded from one number: every element of its buffer is the same one",
)
class BiasBufferStrides(Function):
    @staticmethod
    def forward(ctx, x, bias):
        ctx.bias = bias.shape, bias.stride()
        return x + bias

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        grad_bias = torch.empty_strided(*ctx.bias, dtype=g.dtype)
        for i, total in enumerate(g.sum_to_size(ctx.bias[0]).flatten()):
            grad_bias.view(-1)[i] = total
        return g, grad_bias


@wrong(
    "multiply: gradients packed to the left",
    torch.mul,
    two,
    "a list of those that are needed, filled up with None",
)
class MultiplyPacked(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        grads = [
            g * other for other, need in zip((y, x), ctx.needs_input_grad, strict=True) if need
        ]
        return *grads, *[None] * (2 - len(grads))


@wrong(
    "sigmoid: deterministic algorithms switched on",
    torch.sigmoid,
    matrix,
    "a setting of the whole process, changed for one scatter",
)
class SigmoidDeterministic(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        torch.use_deterministic_algorithms(True)
        return g * y * (1 - y)
