"""Right, and written by somebody else: other arguments, other results, other styles."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from .catalogue import linear, matrix, right


class SwishWithSlope(Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return x * torch.sigmoid(slope * x)

    @staticmethod
    def backward(ctx, g):
        x, slope = ctx.saved_tensors
        s = torch.sigmoid(slope * x)
        grad_x = g * (s + slope * x * s * (1 - s))
        return grad_x.sum_to_size(x.shape), (g * x * x * s * (1 - s)).sum_to_size(slope.shape)


def _swish(x: Tensor, slope: Tensor) -> Tensor:
    return x * torch.sigmoid(slope * x)


right("swish with a slope", _swish, lambda d: (d(4, 6), d()), "of a user")(SwishWithSlope)


@right("swish, checkpointed", _swish, lambda d: (d(4, 6), d()), "the forward runs twice")
def swish_checkpointed(x: Tensor, slope: Tensor) -> Tensor:
    return checkpoint(SwishWithSlope.apply, x, slope, use_reentrant=False)


@right("linear, checkpointed in the old way", F.linear, linear, "a backward inside the backward")
def linear_checkpointed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return checkpoint(F.linear, x, weight, bias, use_reentrant=True)


class Activation(Function):
    """Arguments that are no tensors: a string, a tuple, a dictionary, None, a dtype."""

    @staticmethod
    def forward(ctx, x, kind, bounds, options, inner, dtype):
        ctx.bounds = bounds
        ctx.save_for_backward(x)
        if kind != "clamp":
            raise ValueError(f"kind must be 'clamp', not {kind!r}")
        return (options["scale"] * x).clamp(*bounds) if inner is None else inner(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        y = 2.0 * x
        return 2.0 * g * ((y >= low) & (y <= high)), None, None, None, None, None


@right(
    "clamp: string, tuple, dictionary, None and a dtype",
    lambda x, kind, bounds, options, inner, dtype: (2.0 * x).clamp(*bounds),
    lambda d: (d(4, 6), "clamp", (-1.0, 1.0), {"scale": 2.0}, None, d.dtype),
    "only the bounds are meant to be varied",
)
def activation(x: Tensor, kind: Any, bounds: Any, options: Any, inner: Any, dtype: Any) -> Tensor:
    return Activation.apply(x, kind, bounds, {"scale": 2.0}, inner, dtype)


@right(
    "linear: with a function as an argument",
    lambda x, w, act: act(x @ w),
    lambda d: (d(4, 6), d(6, 3), torch.tanh),
    "a callable is an argument like any other",
)
def linear_and_act(x: Tensor, w: Tensor, act: Any) -> Tensor:
    return act(torch.matmul(x, w))


@right(
    "square: float32 only",
    torch.square,
    lambda d: (d.fixed(4, 6).float().requires_grad_(),),
    "a kernel that was compiled for one dtype, and says so",
)
class SquareFloat32(Function):
    @staticmethod
    def forward(ctx, x):
        if x.dtype != torch.float32:
            raise TypeError(f"float32 only, got {x.dtype}")
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Statistics(NamedTuple):
    mean: Tensor
    size: int
    nothing: None


@right(
    "mean: in a named tuple with a number and None",
    lambda x: Statistics(x.mean(-1), x.shape[-1], None),
    matrix,
    "not everything that is returned is a tensor",
)
def statistics(x: Tensor) -> Statistics:
    return Statistics(x.sum(-1) / x.shape[-1], x.shape[-1], None)


@right(
    "two heads: a dictionary of results",
    lambda x: {"sine": torch.sin(x), "cosine": torch.cos(x)},
    matrix,
    "models return dictionaries",
)
def heads(x: Tensor) -> dict[str, Tensor]:
    return {"sine": torch.sin(x), "cosine": torch.sin(x + torch.pi / 2)}


@right(
    "stack: a list of tensors",
    lambda parts: torch.stack(parts, 1),
    lambda d: ([d(4, 3), d(4, 3), d(4, 3)],),
    "the inputs are inside of a list",
)
def stack(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.unsqueeze(1) for part in parts], 1)


class Selected(Function):
    @staticmethod
    def forward(ctx, x):
        chosen = x > 0
        ctx.save_for_backward(chosen)
        return x[chosen]

    @staticmethod
    def backward(ctx, g):
        (chosen,) = ctx.saved_tensors
        return g.new_zeros(chosen.shape).masked_scatter(chosen, g)


right("positive elements", lambda x: x[x > 0], matrix, "the data decide the shape")(Selected)


_WEIGHT = torch.nn.Parameter(torch.linspace(-1, 1, 18, dtype=torch.float64).view(3, 6))


@right(
    "linear with a weight of its own",
    lambda x: x @ _WEIGHT.T.to(x.dtype),
    matrix,
    "a parameter that is no argument, as in a bound method",
)
def closed_over(x: Tensor) -> Tensor:
    return F.linear(x, _WEIGHT.to(x.dtype))


class SoftplusWide(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        wide = x.double()
        return (wide.clamp(min=0) + torch.log1p(torch.exp(-wide.abs()))).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (g.double() * torch.sigmoid(x.double())).to(g.dtype)


right(
    "softplus: in float64 inside",
    lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    matrix,
    "more precise than asked for",
)(SoftplusWide)


@torch.library.custom_op("manual_bp_tests::cube", mutates_args=())
def cube(x: Tensor) -> Tensor:
    return x * x * x


@cube.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _cube_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _cube_backward(ctx: Any, g: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return 3 * x * x * g


cube.register_autograd(_cube_backward, setup_context=_cube_setup)
right("cube: an operator of torch.library", lambda x: x**3, matrix, "custom_op")(cube)


class ScalarSquare(Function):
    @staticmethod
    def forward(ctx, x):
        if x.dim():
            raise ValueError("a single number only")
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


right("square of a single number", torch.square, lambda d: (d(),), "no dimensions at all")(
    ScalarSquare
)
