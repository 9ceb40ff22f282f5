"""PyTorch's own functions, each against itself: none of them may be accused of anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from manual_bp.spec import Draw

from .catalogue import classes, linear, matrix, right, two


def positive(d: Draw) -> tuple[Any, ...]:
    return (d.uniform(4, 6, low=0.1, high=2.0).requires_grad_(),)


def probability(d: Draw) -> tuple[Any, ...]:
    x = d.uniform(4, 6, low=0.05, high=0.95).requires_grad_()
    return x, d.uniform(4, 6)


def soft(d: Draw) -> tuple[Any, ...]:
    return d(5, 7), d(5, 7).detach().softmax(-1)


def images(d: Draw) -> tuple[Any, ...]:
    return (d(2, 3, 6, 6),)


def attention(d: Draw) -> tuple[Any, ...]:
    return d(2, 3, 4), d(2, 5, 4), d(2, 5, 4)


def square(d: Draw) -> tuple[Any, ...]:
    x = d(4, 4)
    return ((x.detach() + 3 * torch.eye(4, dtype=x.dtype)).requires_grad_(),)


def running(d: Draw) -> tuple[Any, ...]:
    return d(5, 3), d.fixed(3), d.uniform(3, low=0.5, high=2.0), d(3), d(3), True


Table = dict[str, tuple[Callable[..., Any], Callable[[Draw], tuple[Any, ...]]]]

FUNCTIONS: Table = {
    "relu": (F.relu, matrix),
    "relu6": (F.relu6, matrix),
    "leaky_relu": (F.leaky_relu, lambda d: (d(4, 6), 0.1)),
    "elu": (F.elu, matrix),
    "selu": (F.selu, matrix),
    "celu": (F.celu, matrix),
    "gelu": (F.gelu, matrix),
    "silu": (F.silu, matrix),
    "mish": (F.mish, matrix),
    "softplus": (F.softplus, matrix),
    "softsign": (F.softsign, matrix),
    "hardtanh": (F.hardtanh, matrix),
    "hardswish": (F.hardswish, matrix),
    "hardsigmoid": (F.hardsigmoid, matrix),
    "hardshrink": (F.hardshrink, matrix),
    "softshrink": (F.softshrink, matrix),
    "tanhshrink": (F.tanhshrink, matrix),
    "threshold": (F.threshold, lambda d: (d(4, 6), 0.1, 20.0)),
    "logsigmoid": (F.logsigmoid, matrix),
    "sigmoid": (torch.sigmoid, matrix),
    "tanh": (torch.tanh, matrix),
    "prelu": (F.prelu, lambda d: (d(4, 6), d(6))),
    "glu": (F.glu, matrix),
    "softmax": (F.softmax, lambda d: (d(4, 6), -1)),
    "log_softmax": (F.log_softmax, lambda d: (d(4, 6), -1)),
    "logsumexp": (torch.logsumexp, lambda d: (d(4, 6), -1)),
    "exp": (torch.exp, matrix),
    "log": (torch.log, positive),
    "sqrt": (torch.sqrt, positive),
    "rsqrt": (torch.rsqrt, positive),
    "reciprocal": (torch.reciprocal, matrix),
    "sin": (torch.sin, matrix),
    "tan": (torch.tan, matrix),
    "atan2": (torch.atan2, two),
    "erf": (torch.erf, matrix),
    "sinc": (torch.sinc, matrix),
    "abs": (torch.abs, matrix),
    "sign": (torch.sign, matrix),
    "clamp": (torch.clamp, lambda d: (d(4, 6), -0.5, 0.5)),
    "round": (torch.round, matrix),
    "fmod": (torch.fmod, lambda d: (d(4, 6), 0.75)),
    "add": (torch.add, two),
    "multiply": (torch.mul, two),
    "divide": (torch.div, two),
    "power": (torch.pow, lambda d: (*positive(d), d(4, 6))),
    "maximum": (torch.maximum, two),
    "lerp": (torch.lerp, lambda d: (d(4, 6), d(4, 6), 0.3)),
    "xlogy": (torch.xlogy, lambda d: (d(4, 6), *positive(d))),
    "where": (torch.where, lambda d: (d.fixed(4, 6) > 0, d(4, 6), d(4, 6))),
    "matmul": (torch.matmul, lambda d: (d(4, 6), d(6, 3))),
    "batched matmul": (torch.bmm, lambda d: (d(2, 3, 4), d(2, 4, 5))),
    "linear": (F.linear, linear),
    "bilinear": (F.bilinear, lambda d: (d(4, 3), d(4, 5), d(2, 3, 5), d(2))),
    "sum": (torch.sum, lambda d: (d(4, 6), -1)),
    "mean": (torch.mean, lambda d: (d(4, 6), 0)),
    "variance": (torch.var, lambda d: (d(4, 6), -1)),
    "standard deviation": (torch.std, lambda d: (d(4, 6), -1)),
    "norm": (lambda x: x.norm(dim=-1), matrix),
    "product": (torch.prod, lambda d: (d(4, 6), -1)),
    "cumulative sum": (torch.cumsum, lambda d: (d(4, 6), -1)),
    "cumulative product": (torch.cumprod, lambda d: (d(4, 6), -1)),
    "amax": (torch.amax, lambda d: (d(4, 6), -1)),
    "max with indices": (torch.max, lambda d: (d(4, 6), -1)),
    "median": (torch.median, lambda d: (d(4, 6), -1)),
    "sort": (torch.sort, lambda d: (d(4, 6), -1)),
    "topk": (torch.topk, lambda d: (d(4, 6), 3)),
    "gather": (torch.gather, lambda d: (d(4, 6), 1, d.integers(6, 4, 3))),
    "index select": (torch.index_select, lambda d: (d(4, 6), 1, d.integers(6, 5))),
    "embedding": (F.embedding, lambda d: (d.integers(9, 2, 4), d(9, 5), 2)),
    "flip": (torch.flip, lambda d: (d(4, 6), (0,))),
    "concatenate": (lambda a, b: torch.cat([a, b]), lambda d: (d(4, 6), d(3, 6))),
    "unbind": (torch.unbind, matrix),
    "pad": (F.pad, lambda d: (d(2, 3, 5), (1, 2), "reflect")),
    "layer norm": (F.layer_norm, lambda d: (d(4, 6), (6,), d(6), d(6))),
    "rms norm": (F.rms_norm, lambda d: (d(4, 6), (6,), d(6))),
    "group norm": (F.group_norm, lambda d: (d(2, 4, 5), 2, d(4), d(4))),
    "batch norm": (F.batch_norm, running),
    "instance norm": (F.instance_norm, lambda d: (d(2, 3, 5),)),
    "local response norm": (F.local_response_norm, lambda d: (d(2, 4, 5), 3)),
    "normalize": (F.normalize, matrix),
    "cosine similarity": (F.cosine_similarity, two),
    "pairwise distance": (F.pairwise_distance, two),
    "cdist": (torch.cdist, lambda d: (d(4, 3), d(5, 3))),
    "dropout": (F.dropout, lambda d: (d(4, 6), 0.3)),
    "cross-entropy": (F.cross_entropy, classes),
    "cross-entropy, soft": (F.cross_entropy, soft),
    "nll loss": (F.nll_loss, classes),
    "mse loss": (F.mse_loss, two),
    "l1 loss": (F.l1_loss, two),
    "smooth l1 loss": (F.smooth_l1_loss, two),
    "huber loss": (F.huber_loss, two),
    "kl divergence": (F.kl_div, lambda d: (d(4, 6), d(4, 6).detach().softmax(-1))),
    "bce": (F.binary_cross_entropy, probability),
    "bce with logits": (
        F.binary_cross_entropy_with_logits,
        lambda d: (d(4, 6), d.uniform(4, 6)),
    ),
    "hinge embedding loss": (
        F.hinge_embedding_loss,
        lambda d: (d(4, 6), d.integers(2, 4, 6).double() * 2 - 1),
    ),
    "margin ranking loss": (
        F.margin_ranking_loss,
        lambda d: (d(5), d(5), d.integers(2, 5).double() * 2 - 1),
    ),
    "multi margin loss": (F.multi_margin_loss, classes),
    "triplet margin loss": (F.triplet_margin_loss, lambda d: (d(4, 6), d(4, 6), d(4, 6))),
    "gaussian nll loss": (F.gaussian_nll_loss, lambda d: (d(4, 6), d.fixed(4, 6), *positive(d))),
    "poisson nll loss": (F.poisson_nll_loss, lambda d: (d(4, 6), d.uniform(4, 6))),
    "conv1d": (F.conv1d, lambda d: (d(2, 3, 6), d(4, 3, 3), d(4))),
    "conv2d": (F.conv2d, lambda d: (d(2, 3, 6, 6), d(4, 3, 3, 3), d(4), 2, 1)),
    "conv_transpose1d": (F.conv_transpose1d, lambda d: (d(2, 3, 5), d(3, 4, 3))),
    "max pool 2d": (F.max_pool2d, lambda d: (*images(d), 2)),
    "average pool 2d": (F.avg_pool2d, lambda d: (*images(d), 2)),
    "adaptive average pool": (F.adaptive_avg_pool2d, lambda d: (*images(d), 2)),
    "unfold": (F.unfold, lambda d: (*images(d), 3)),
    "pixel shuffle": (F.pixel_shuffle, lambda d: (d(1, 4, 3, 3), 2)),
    "interpolate": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        images,
    ),
    "attention": (F.scaled_dot_product_attention, attention),
    "inverse": (torch.linalg.inv, square),
    "determinant": (torch.linalg.det, square),
    "solve": (torch.linalg.solve, lambda d: (*square(d), d(4, 2))),
    "fft": (lambda x: torch.fft.rfft(x).abs(), matrix),
    "complex product": (
        lambda z, w: z * w.conj(),
        lambda d: (
            torch.complex(d.fixed(4, 6), d.fixed(4, 6)).requires_grad_(),
            torch.complex(d.fixed(4, 6), d.fixed(4, 6)).requires_grad_(),
        ),
    ),
}

for _name, (_function, _inputs) in FUNCTIONS.items():
    right(f"torch: {_name}", _function, _inputs, "PyTorch's own, against itself")(_function)
