"""Right backwards that look suspicious: what a checker is tempted to accuse."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .catalogue import classes, linear, matrix, right, two
from .norms import layer_norm, normalised


@right("exp: honest once_differentiable", torch.exp, matrix, "no second order, and says so")
class ExpOnce(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


@right("exp: second order refused in words", torch.exp, matrix, "raises NotImplementedError")
class ExpRefuses(Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        if g.requires_grad or torch.is_grad_enabled():
            raise NotImplementedError("exp has no second order here")
        return g * ctx.saved_tensors[0]


@right("sine: through NumPy, and says so", torch.sin, matrix, "a NumPy kernel")
class SinNumpyHonest(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * torch.from_numpy(x.double().numpy()).cos().to(g.dtype)


@right("multiply: number and shape on ctx", lambda x: 3 * x, matrix, "not tensors, so no harm")
class ScaleAttributes(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.factor, ctx.shape = 3, x.shape
        return x * 3

    @staticmethod
    def backward(ctx, g):
        return (g * ctx.factor).reshape(ctx.shape)


@right("tanh: setup_context", torch.tanh, matrix, "the new style")
class TanhNewStyle(Function):
    @staticmethod
    def forward(x):
        return torch.tanh(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


@right(
    "tanh: from exponentials that do not overflow",
    torch.tanh,
    matrix,
    "another formula than PyTorch's: 1/cosh^2",
)
class TanhCosh(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = torch.exp(-2 * x.abs())
        return g * 4 * e / (1 + e) ** 2


@right("linear: all ranks, all subsets", F.linear, linear, "a careful one")
class LinearCareful(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        rows = g.reshape(-1, g.shape[-1])
        return (
            g @ weight if needs[0] else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if needs[1] else None,
            rows.sum(0) if needs[2] else None,
        )


@right(
    "linear: refuses other ranks in words",
    lambda x, w: F.linear(x, w),
    lambda d: (d(4, 6), d(3, 6)),
    "a ValueError in the forward is no wrong gradient",
)
class LinearTwoDimensional(Function):
    @staticmethod
    def forward(ctx, x, weight):
        if x.dim() != 2 or weight.dim() != 2:
            raise ValueError(f"expected matrices, got {tuple(x.shape)} and {tuple(weight.shape)}")
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight, g.t() @ x


@right("linear: computes gradients that nobody needs", F.linear, linear, "wasteful, not wrong")
class LinearWasteful(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        return g @ weight, rows.t() @ x.reshape(-1, x.shape[-1]), rows.sum(0)


@right("add: the same tensor for both inputs", torch.add, two, "as PyTorch does")
class AddShares(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.shapes = x.shape, y.shape
        return x + y

    @staticmethod
    def backward(ctx, g):
        return g.sum_to_size(ctx.shapes[0]), g.sum_to_size(ctx.shapes[1])


@right("sum: an expanded gradient", lambda x: x.sum(-1), matrix, "a view with stride zero")
class SumExpands(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.sum(-1)

    @staticmethod
    def backward(ctx, g):
        return g.unsqueeze(-1).expand(ctx.shape) if ctx.shape else g


@right(
    "transpose: a view of grad_output",
    lambda x: x.transpose(-1, -2) * 1,
    matrix,
    "the gradient is a view of the cotangent",
)
class TransposeView(Function):
    @staticmethod
    def forward(ctx, x):
        return x.transpose(-1, -2) * 1

    @staticmethod
    def backward(ctx, g):
        return g.transpose(-1, -2)


@right(
    "relu: in place, marked dirty",
    lambda x: torch.relu_(x * 1),
    matrix,
    "mark_dirty on a tensor of its own",
)
def relu_marked_dirty(x: Tensor) -> Tensor:
    return ReluDirty.apply(x * 1)


class ReluDirty(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.clamp_(min=0)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * (y > 0)


@right(
    "max with indices, marked non-differentiable",
    lambda x: tuple(x.max(-1)),
    matrix,
    "mark_non_differentiable where it belongs",
)
class MaxMarked(Function):
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
        if not ctx.shape:
            return g
        zeros = g.new_zeros(ctx.shape)
        return zeros.scatter(-1, index.unsqueeze(-1), g.unsqueeze(-1))


@right(
    "sine and cosine: gradients not materialised",
    lambda x: (torch.sin(x), torch.cos(x)),
    matrix,
    "looks at None",
)
class SinCosCareful(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return torch.sin(x), torch.cos(x)

    @staticmethod
    def backward(ctx, gs, gc):
        (x,) = ctx.saved_tensors
        grad = None
        if gs is not None:
            grad = gs * torch.cos(x)
        if gc is not None:
            grad = -gc * torch.sin(x) if grad is None else grad - gc * torch.sin(x)
        return grad


@right("dropout: mask saved", lambda x: F.dropout(x, 0.3), matrix, "the same random stream")
class DropoutSaved(Function):
    @staticmethod
    def forward(ctx, x):
        mask = torch.empty_like(x).bernoulli_(0.7) / 0.7
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


@right(
    "dropout: numbers of its own",
    lambda x: F.dropout(x, 0.3),
    matrix,
    "rand() in place of bernoulli_(): another stream, the same distribution",
)
class DropoutOwnStream(Function):
    @staticmethod
    def forward(ctx, x):
        mask = (torch.rand(x.shape) > 0.3).to(x.dtype) / 0.7
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


@right(
    "dropout: mask drawn again from the saved state",
    lambda x: F.dropout(x, 0.3),
    matrix,
    "no mask in memory, and the generator as it was",
)
class DropoutReplayed(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.state = torch.get_rng_state()
        ctx.strides = x.stride()
        return x * torch.empty_like(x).bernoulli_(0.7) / 0.7

    @staticmethod
    def backward(ctx, g):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(ctx.state)
            like = torch.empty_strided(g.shape, ctx.strides, dtype=g.dtype)
            mask = torch.empty_like(like).bernoulli_(0.7)
        return g * mask / 0.7


@right("log sum exp: shifted by the maximum", lambda x: x.logsumexp(-1), matrix, "stable")
class LogsumexpShifted(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.logsumexp(-1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        if not x.dim():
            return g * (x - y).exp()
        return g.unsqueeze(-1) * (x - y.unsqueeze(-1)).exp()


@right("layer norm: derived by hand", layer_norm, lambda d: (d(4, 6), d(6), d(6)), "the textbook's")
class LayerNormRight(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return layer_norm(x, weight, bias)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        dtype = x.dtype
        wide = torch.promote_types(dtype, torch.float32)
        x, weight, g = x.to(wide), weight.to(wide), g.to(wide)
        h, std = normalised(x, -1)
        over = tuple(range(g.dim() - 1))
        gh = g * weight
        grad = (gh - gh.mean(-1, keepdim=True) - h * (gh * h).mean(-1, keepdim=True)) / std
        weights = (g * h).sum(over) if over else g * h, g.sum(over) if over else g
        return tuple(t.to(dtype) for t in (grad, *weights))


@right(
    "cross-entropy: gradient made in the forward",
    F.cross_entropy,
    classes,
    "half the memory; no second order, and says so",
)
class CrossEntropyEager(Function):
    @staticmethod
    def forward(ctx, x, target):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            loss = F.cross_entropy(leaf, target)
            (grad,) = torch.autograd.grad(loss, leaf)
        ctx.save_for_backward(grad)
        return loss.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@right("embedding: index_add", F.embedding, lambda d: (d.integers(9, 2, 4), d(9, 5)), "repeats add")
class EmbeddingRight(Function):
    @staticmethod
    def forward(ctx, index, weight):
        ctx.save_for_backward(index)
        ctx.shape = weight.shape
        return F.embedding(index, weight)

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        rows = g.reshape(-1, g.shape[-1])
        return None, g.new_zeros(ctx.shape).index_add(0, index.reshape(-1), rows)


@right(
    "softmax: a gradient in another layout",
    lambda x: x.softmax(-1),
    matrix,
    "a transposed result is as good as any",
)
class SoftmaxTransposed(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        dot = (g * y).sum(-1, keepdim=True) if y.dim() else g * y
        return (y * (g - dot)).mT.contiguous().mT if y.dim() > 1 else y * (g - dot)


@right(
    "square: a cache by shape, of constants",
    torch.square,
    matrix,
    "what is kept does not depend on the data",
)
class SquareCachesTwo(Function):
    twos: dict[object, Tensor] = {}  # noqa: RUF012

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        two = SquareCachesTwo.twos.setdefault(g.dtype, torch.full((), 2.0, dtype=g.dtype))
        return two * g * ctx.saved_tensors[0]


@right("square: a copy of the input", torch.square, matrix, "wasteful, not wrong")
class SquareCopies(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.kept = x.clone()
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.kept


@right(
    "mlp under checkpoint",
    lambda x, w: torch.tanh(x @ w),
    lambda d: (d(4, 6), d(6, 6)),
    "the forward runs twice",
)
def checkpointed(x: Tensor, w: Tensor) -> Tensor:
    return checkpoint(
        lambda a, b: torch.tanh(Copy.apply(a) @ Copy.apply(b)), x, w, use_reentrant=False
    )


class Copy(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g


@right("square: gradient by torch.func", torch.square, matrix, "vmap of grad, as a composite")
def square_by_square_root(x: Tensor) -> Tensor:
    return x.abs().pow(2)


@right("matrix product as einsum", torch.matmul, lambda d: (d(4, 6), d(6, 3)), "refuses others")
def einsum(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() != 2 or b.dim() != 2:
        raise ValueError("expected matrices")
    return torch.einsum("ij,jk->ik", a, b)


@right(
    "two in one tensor: complex input",
    lambda z: z * z.conj(),
    lambda d: (torch.complex(d.fixed(4, 6), d.fixed(4, 6)).requires_grad_(),),
    "Wirtinger's derivative",
)
class SquaredModulus(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z.conj()

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * z + (g * z.conj()).conj()


@right(
    "add: leaves the sum over broadcast dimensions to the engine",
    torch.add,
    two,
    "the engine reduces a gradient that is larger than its input",
)
class AddLeavesBroadcasting(Function):
    @staticmethod
    def forward(ctx, x, y):
        return x + y

    @staticmethod
    def backward(ctx, g):
        return g, g


@right(
    "weighted sum: one buffer for two gradients",
    lambda x, y: 2 * x + 2 * y,
    two,
    "the engine copies what it accumulates, as for torch.add",
)
class SumSharesBuffer(Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.shapes = x.shape, y.shape
        return 2 * x + 2 * y

    @staticmethod
    def backward(ctx, g):
        grad = 2 * g
        if ctx.shapes == (g.shape, g.shape):
            return grad, grad.view(g.shape)
        return grad.sum_to_size(ctx.shapes[0]), grad.sum_to_size(ctx.shapes[1])
