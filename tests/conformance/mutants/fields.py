"""Right, in other fields: sparse and complex numbers, matrices, estimators, whole layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from manual_bp.spec import Draw

from .catalogue import matrix, right, two


def _adjacency(d: Draw) -> tuple[Any, ...]:
    dense = d.fixed(5, 4) * (d.fixed(5, 4) > 0)
    return dense.to_sparse(), d(4, 3)


@right("sparse times dense", lambda a, x: torch.sparse.mm(a, x), _adjacency, "a graph's layer")
class SparseTimesDense(Function):
    @staticmethod
    def forward(ctx, a, x):
        ctx.save_for_backward(a)
        return torch.sparse.mm(a, x)

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return None, torch.sparse.mm(a.t(), g)


@right(
    "embedding: sparse gradients",
    lambda i, w: F.embedding(i, w, sparse=True),
    lambda d: (d.integers(7, 5), d(7, 3)),
    "rows that were not looked up are not stored",
)
class EmbeddingSparse(Function):
    @staticmethod
    def forward(ctx, i, w):
        ctx.save_for_backward(i)
        ctx.shape = w.shape
        return F.embedding(i, w)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (i,) = ctx.saved_tensors
        rows = g.reshape(-1, ctx.shape[1])
        return None, torch.sparse_coo_tensor(i.reshape(1, -1), rows, ctx.shape)


right(
    "torch: embedding with sparse gradients, as an option",
    F.embedding,
    lambda d: (d.integers(7, 5), d(7, 3), None, None, 2.0, False, True),
    "PyTorch's own, against itself",
)(F.embedding)


class CosineByHand(Function):
    @staticmethod
    def forward(ctx, x, y):
        if x.shape != y.shape or x.dim() != 2:
            raise ValueError(f"two matrices of one shape, not {x.shape} and {y.shape}")
        ctx.save_for_backward(x, y)
        return (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        a, b = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
        u, v = x / a.clamp(min=1e-12), y / b.clamp(min=1e-12)
        cos, g = (u * v).sum(-1, keepdim=True), g[:, None]
        grad_x = g * (v - cos * u * (a >= 1e-12)) / a.clamp(min=1e-12)
        return grad_x, g * (u - cos * v * (b >= 1e-12)) / b.clamp(min=1e-12)


def _parallel(d: Draw) -> tuple[Any, ...]:
    x = d(4, 6)
    return x, (2.5 * x.detach()).requires_grad_()


right(
    "cosine of parallel vectors",
    lambda x, y: (F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1),
    _parallel,
    "the gradient is zero, and every formula rounds it otherwise",
)(CosineByHand)


class Reparametrised(Function):
    @staticmethod
    def forward(ctx, mean, std):
        noise = torch.randn_like(mean)
        ctx.save_for_backward(noise)
        return mean + std * noise

    @staticmethod
    def backward(ctx, g):
        return g, g * ctx.saved_tensors[0]


right(
    "reparametrisation: the same noise",
    lambda mean, std: mean + std * torch.randn_like(mean),
    two,
    "a sample of a normal distribution",
)(Reparametrised)


class Inverse(Function):
    @staticmethod
    def forward(ctx, a):
        y = torch.linalg.inv(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return -y.mT @ g @ y.mT


def _regular(d: Draw) -> tuple[Any, ...]:
    return ((d.fixed(4, 4) + 3 * torch.eye(4, dtype=d.dtype)).requires_grad_(),)


right("inverse of a matrix", torch.linalg.inv, _regular, "dX = -Y^T dY Y^T")(Inverse)


class Cholesky(Function):
    @staticmethod
    def forward(ctx, a):
        y = torch.linalg.cholesky(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        phi = (y.mT @ g).tril()
        phi = phi - 0.5 * torch.diag_embed(phi.diagonal(dim1=-2, dim2=-1))
        inner = torch.linalg.solve_triangular(y.mT, phi, upper=True)
        half = torch.linalg.solve_triangular(y.mT, inner.mT, upper=True).mT
        return 0.5 * (half + half.mT)


def _definite(d: Draw) -> tuple[Any, ...]:
    a = d.fixed(4, 4)
    return ((a @ a.T + 2 * torch.eye(4, dtype=d.dtype)).requires_grad_(),)


right(
    "cholesky", torch.linalg.cholesky, _definite, "Murray (2016), Differentiation of the Cholesky"
)(Cholesky)


@right("einsum: a string first", torch.einsum, lambda d: ("ij,jk->ik", d(4, 6), d(6, 3)), "matmul")
def einsum(equation: str, x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum(equation, x, y)


class RealFourier(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.n = x.shape[-1]
        return torch.fft.fft(x)

    @staticmethod
    def backward(ctx, g):
        return (torch.fft.ifft(g) * ctx.n).real


right("fft of real numbers", torch.fft.fft, matrix, "real in, complex out")(RealFourier)


class ComplexMagnitude(Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.real * z.real + z.imag * z.imag

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return 2 * g * z


right(
    "square of a magnitude: complex in, real out",
    lambda z: (z * z.conj()).real,
    lambda d: (torch.complex(d.fixed(4, 6), d.fixed(4, 6)).requires_grad_(),),
    "quantum states",
)(ComplexMagnitude)


class StraightThrough(Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, g):
        return g


right(
    "sign, straight through",
    lambda x: x + (torch.sign(x) - x).detach(),
    lambda d: (d(4, 6, scale=0.5),),
    "an estimator, not a derivative: the reference says what it should be",
)(StraightThrough)


class Reversed(Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -ctx.strength * g, None


right(
    "gradient reversal",
    lambda x, strength: (1 + strength) * x.detach() - strength * x,
    lambda d: (d(4, 6), 0.5),
    "domain adaptation: the sign is turned round on purpose",
)(Reversed)


class TopTwo(Function):
    @staticmethod
    def forward(ctx, x):
        values, where = x.topk(2, -1)
        ctx.save_for_backward(where)
        ctx.shape = x.shape
        ctx.mark_non_differentiable(where)
        ctx.set_materialize_grads(False)
        return values, where

    @staticmethod
    def backward(ctx, g, _):
        if g is None:
            return None
        return g.new_zeros(ctx.shape).scatter(-1, ctx.saved_tensors[0], g)


right("two largest", lambda x: tuple(x.topk(2, -1)), matrix, "gates of a mixture of experts")(
    TopTwo
)


class LogDomain(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.atanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / ((1 - x) * (1 + x))


right(
    "atanh: between minus one and one",
    torch.atanh,
    lambda d: ((2 * d.uniform(4, 6) - 1).mul(0.9).requires_grad_(),),
    "nothing outside of its domain",
)(LogDomain)


@right(
    "torch: acosh",
    torch.acosh,
    lambda d: (d.uniform(4, 6, low=1.1, high=3.0).requires_grad_(),),
    "above one",
)
def acosh(x: Tensor) -> Tensor:
    return torch.log(x + torch.sqrt((x - 1) * (x + 1)))


class AttentionCausal(Function):
    @staticmethod
    def forward(ctx, q, k, v):
        n, m = q.shape[-2], k.shape[-2]
        hidden = torch.ones(n, m, dtype=torch.bool).triu(1)
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, float("-inf"))
        ctx.save_for_backward(q, k, v)
        return torch.softmax(scores, -1) @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v = ctx.saved_tensors
        n, m = q.shape[-2], k.shape[-2]
        hidden = torch.ones(n, m, dtype=torch.bool).triu(1)
        scale = q.shape[-1] ** -0.5
        p = torch.softmax((q @ k.mT * scale).masked_fill(hidden, float("-inf")), -1)
        d = g @ v.mT
        d = p * (d - (d * p).sum(-1, keepdim=True)) * scale
        return (
            (d @ k).sum_to_size(q.shape),
            (d.mT @ q).sum_to_size(k.shape),
            (p.mT @ g).sum_to_size(v.shape),
        )


right(
    "causal attention",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    lambda d: (d(2, 5, 4), d(2, 5, 4), d(2, 5, 3)),
    "recomputes the probabilities",
)(AttentionCausal)


class BatchNormTraining(Function):
    @staticmethod
    def forward(ctx, x, running_mean, running_var, weight, bias):
        mean, var = x.mean(0), x.var(0, correction=0)
        with torch.no_grad():
            running_mean.lerp_(mean.detach(), 0.1)
            running_var.lerp_(x.var(0).detach(), 0.1)
        rstd = (var + 1e-5).rsqrt()
        ctx.save_for_backward(x, weight, mean, rstd)
        return (x - mean) * rstd * weight + bias

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, mean, rstd = ctx.saved_tensors
        h = (x - mean) * rstd
        grad_x = weight * rstd * (g - g.mean(0) - h * (g * h).mean(0))
        return grad_x, None, None, (g * h).sum(0), g.sum(0)


def _batch_norm(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.dim() != 2 or len(x) < 2:
        raise ValueError("a batch of rows, two at least")
    return F.batch_norm(x, mean, var, weight, bias, training=True)


right(
    "batch norm: running statistics updated in place",
    _batch_norm,
    lambda d: (d(5, 3), d.fixed(3), d.uniform(3, low=0.5), d(3), d(3)),
    "a function that changes two of its arguments on purpose",
)(BatchNormTraining)
