"""Wrong about the graph: second order, two calls, two backwards, what is kept alive."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .catalogue import linear, matrix, two, wrong


@wrong("twice, squared: intermediate on ctx", lambda x: (2 * x) ** 2, matrix, "pytorch#58509")
class IntermediateOnCtx(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.twice = x * 2
        return ctx.twice**2

    @staticmethod
    def backward(ctx, g):
        return 4 * ctx.twice * g


@wrong("sinh: saves an intermediate", torch.sinh, matrix, "pytorch#104040")
class SinhSavesIntermediates(Function):
    @staticmethod
    def forward(ctx, x):
        up, down = torch.exp(x), torch.exp(-x)
        ctx.save_for_backward(up, down)
        return (up - down) / 2

    @staticmethod
    def backward(ctx, g):
        up, down = ctx.saved_tensors
        return g * (up + down) / 2


@wrong("cube: ratio of two values on ctx", lambda x: x**3, matrix, "pytorch#76185")
class CubeRatioOnCtx(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.square = x * x
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * ctx.square * x / x


@wrong(
    "attention: probabilities on ctx",
    F.scaled_dot_product_attention,
    lambda d: (d(2, 3, 4), d(2, 5, 4), d(2, 5, 4)),
    "pytorch#116350",
)
class AttentionOnCtx(Function):
    @staticmethod
    def forward(ctx, q, k, v):
        ctx.scale = q.shape[-1] ** -0.5
        ctx.p = (q @ k.transpose(-1, -2) * ctx.scale).softmax(-1)
        ctx.save_for_backward(q, k, v)
        return ctx.p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v = ctx.saved_tensors
        gp = g @ v.transpose(-1, -2)
        gs = ctx.p * (gp - (gp * ctx.p).sum(-1, keepdim=True)) * ctx.scale
        return gs @ k, gs.transpose(-1, -2) @ q, ctx.p.transpose(-1, -2) @ g


@wrong("exp: detaches the saved output", torch.exp, matrix, "pytorch#18619")
class ExpDetached(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].detach()


@wrong(
    "multiply: backward under no_grad", torch.mul, two, "somebody read that backward needs no graph"
)
class MulNoGrad(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        with torch.no_grad():
            return g * y, g * x


@wrong(
    "sine: through NumPy, not said",
    torch.sin,
    matrix,
    "a NumPy backward without once_differentiable",
)
class SinNumpy(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.from_numpy(__import__("numpy").cos(x.detach().double().numpy())).to(g)


@wrong("clone: output on ctx", torch.clone, matrix, "pytorch#25340")
class CloneKeepsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = x.clone()
        return ctx.y

    @staticmethod
    def backward(ctx, g):
        return g


@wrong("exp: output on ctx, and used", torch.exp, matrix, "pytorch#5569")
class ExpKeepsOutput(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = torch.exp(x)
        return ctx.y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.y


@wrong("scatter: cache cleared by the first backward", lambda x: x.cumsum(-1), matrix, "dgl#1046")
class CacheCleared(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.cache = torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype).tril()
        return x.cumsum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        tril, ctx.cache = ctx.cache, None
        return g @ tril


@wrong(
    "square: tensors in a list that grows",
    torch.square,
    matrix,
    "kept for debugging, never emptied",
)
class SquareGlobalList(Function):
    seen: list[Tensor] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        SquareGlobalList.seen.append(x.detach().clone())
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


@wrong(
    "tanh: state on the class",
    torch.tanh,
    matrix,
    "the second call overwrites what the first one needs",
)
class TanhStateOnClass(Function):
    y: Tensor

    @staticmethod
    def forward(ctx, x):
        TanhStateOnClass.y = torch.tanh(x)
        return TanhStateOnClass.y.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * (1 - TanhStateOnClass.y.square())


@wrong(
    "linear: weight cached by shape",
    F.linear,
    linear,
    "the transposed weight is kept for speed and goes stale",
)
class LinearStaleWeight(Function):
    cache: dict[object, Tensor] = {}  # noqa: RUF012

    @staticmethod
    def forward(ctx, x, weight, bias):
        key = (tuple(weight.shape), weight.dtype)
        if len(LinearStaleWeight.cache) > 256:
            LinearStaleWeight.cache.clear()
        kept = LinearStaleWeight.cache.setdefault(key, weight.detach().clone())
        ctx.save_for_backward(x, kept)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        return g @ weight, rows.t() @ x.reshape(-1, x.shape[-1]), rows.sum(0)


@wrong(
    "softsign: gradient accumulated over backwards",
    F.softsign,
    matrix,
    "retain_graph: the second backward adds to the first",
)
class SoftsignAccumulates(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.total = None
        return F.softsign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        grad = g / (1 + ctx.saved_tensors[0].abs()) ** 2
        ctx.total = grad if ctx.total is None else ctx.total + grad
        return ctx.total


@wrong("sigmoid: intermediate destroyed by the backward", torch.sigmoid, matrix, "dgl#1060")
class SigmoidDestroysIntermediate(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.sigmoid(x)
        ctx.slope = y * (1 - y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return ctx.slope.mul_(g)


@wrong("exp: recomputed with a graph attached", torch.exp, matrix, "pytorch#51978")
class ExpAttached(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.exp(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return (
                g * torch.autograd.grad(torch.exp(x), x, torch.ones_like(x), create_graph=True)[0]
            )


@wrong(
    "layer norm: statistics as constants in second order",
    lambda x: F.layer_norm(x, (6,)),
    matrix,
    "pytorch#104040, with mean and rstd as a kernel saves them",
)
class LayerNormSavedStatistics(Function):
    @staticmethod
    def forward(ctx, x):
        mean = x.mean(-1, keepdim=True)
        rstd = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).rsqrt()
        ctx.save_for_backward(x, mean, rstd)
        return (x - mean) * rstd

    @staticmethod
    def backward(ctx, g):
        x, mean, rstd = ctx.saved_tensors
        h = (x - mean) * rstd
        return rstd * (g - g.mean(-1, keepdim=True) - h * (g * h).mean(-1, keepdim=True))


@wrong(
    "multiply: second order forgets the cotangent",
    torch.mul,
    two,
    "grad_output is detached before it is used",
)
class MulDetachedGrad(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        g = g.detach()
        return g * y, g * x


class Square(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


@wrong(
    "square: leaves gradients switched off",
    torch.square,
    matrix,
    "set_grad_enabled(False) to save memory, and no way back",
)
def square_turns_gradients_off(x):
    y = Square.apply(x)
    torch.set_grad_enabled(False)
    return y


def sigmoid_of_detached(x):
    y = torch.sigmoid(x.detach()).requires_grad_(x.requires_grad)
    return y if not x.requires_grad else y + 0 * x


wrong("sigmoid: graph cut in the forward", torch.sigmoid, matrix, "x.detach() to save memory")(
    sigmoid_of_detached
)


@wrong(
    "log_softmax: output overwritten afterwards goes unnoticed",
    lambda x: x.log_softmax(-1),
    matrix,
    "pytorch#30454",
)
class LogSoftmaxDetachedView(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.log_softmax(-1)
        ctx.kept = torch.from_numpy(y.detach().numpy()) if y.dtype.itemsize > 2 else y.data
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g - ctx.kept.exp() * g.sum(-1, keepdim=True)


@wrong(
    "square: needs its graph in the forward",
    torch.square,
    matrix,
    "a hook registered on the output, which has no graph in evaluation",
)
def square_with_hook(x):
    y = Square.apply(x)
    y.register_hook(lambda g: g)
    return y


@wrong(
    "dot with a weight: returns the weight for any cotangent",
    lambda x, w: (x * w).sum(),
    lambda d: (d(6), d(6)),
    "the loss is last, so that its cotangent is one",
)
class DotIgnoresCotangent(Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return (x * w).sum()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return w.clone(), x.clone()
