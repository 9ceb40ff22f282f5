r"""LayerNorm: every example is shifted and scaled to mean 0 and variance 1 over its features.

Indices: ``n`` example, ``i`` feature, ``D`` features. Several normalized axes count as one ``i``.

Forward::

    mean_n = 1/D sum_i x_ni                              (N, 1)
    rstd_n = 1 / sqrt(1/D sum_i (x_ni - mean_n)^2 + eps) (N, 1)
    x^_ni  = (x_ni - mean_n) rstd_n                      (N, D)
    y_ni   = weight_i x^_ni + bias_i

Backward, with g_ni = dL/dy_ni weight_i, the gradient with respect to x^::

    dL/dx_ni   = rstd_n (g_ni - 1/D sum_j g_nj - x^_ni 1/D sum_j g_nj x^_nj)
    dL/dweight = sum_n dL/dy_n x^_n                      (D)
    dL/dbias   = sum_n dL/dy_n                           (D)

Why three terms: x_i reaches the loss by itself, through the mean, and through the variance. The
output cannot see a shift of all x_i, so the gradient has no part along (1, ..., 1): the second
term takes it out. Nor can it see a scaling, so there is no part along x^: that is the third.

Ba, Kiros & Hinton (2016), "Layer Normalization", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.spec import Draw, Sample, Spec, sample

_IN_CACHE = 2**17  # elements, on a CPU


class LayerNormFunction(Function):
    """``x``: (N..., D...), ``weight`` and ``bias``: (D...) or None; ``shape``: (D...)."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_layer_norm(x, shape, weight, bias, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, shape, ctx.eps = inputs
        _, mean, rstd = output
        ctx.features = tuple(range(-len(shape), 0))  # the axes of i
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, None, None, None, None
        x, weight, mean, rstd = ctx.saved_tensors
        shape, x_dtype = tuple(x.shape[i] for i in ctx.features), x.dtype
        grad_y, x, w, mean, rstd = widened(grad_y, x, weight, mean, rstd)
        if is_recorded():
            grad_x, grad_weight, grad_bias = _as_derived(ctx, grad_y, x, w)
        else:
            grad_x, grad_weight, grad_bias = _in_place(ctx, grad_y, x, w, mean, rstd)
        if grad_x is not None:
            grad_x = grad_x.view_as(x).to(x_dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.view(shape).to(weight.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.view(shape).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None


def _as_derived(
    ctx: Any, grad_y: Tensor, x: Tensor, weight: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The formulas as they stand above; mean and rstd from ``x``, on which they depend."""
    mean = x.mean(ctx.features, keepdim=True)
    rstd = ((x - mean).square().mean(ctx.features, keepdim=True) + ctx.eps).rsqrt()
    xhat = (x - mean) * rstd
    grad_x = grad_weight = grad_bias = None
    if ctx.needs_input_grad[0]:
        g = grad_y if weight is None else grad_y * weight
        shift = g.mean(ctx.features, keepdim=True)
        scaling = (g * xhat).mean(ctx.features, keepdim=True)
        grad_x = rstd * (g - shift - xhat * scaling)
    shape = [x.shape[i] for i in ctx.features]
    if ctx.needs_input_grad[1]:
        grad_weight = (grad_y * xhat).sum_to_size(shape)
    if ctx.needs_input_grad[2]:
        grad_bias = grad_y.sum_to_size(shape)
    return grad_x, grad_weight, grad_bias


def _in_place(
    ctx: Any, grad_y: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The same block by block of examples, each so small that its steps stay in the cache.

    Both means over the features are products with the vector ``weight``, so that g = grad_y
    weight is never written down; x^ is written where ``grad_x`` will be.
    """
    rows, size = mean.numel(), math.prod(x.shape[i] for i in ctx.features)
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    weight = x.new_ones(size) if weight is None else weight.reshape(size)
    x = x.reshape(rows, size)
    grad_x = torch.empty_like(x)
    grad_weight: list[Tensor] = []
    grad_bias: list[Tensor] = []
    whole = (grad_y.reshape(rows, size), x, mean.view(rows, 1), rstd.view(rows, 1), grad_x)
    block = max(1, _IN_CACHE // max(size, 1))
    at_once = rows <= block or x.device.type != "cpu"
    blocks = [whole] if at_once else zip(*(t.split(block) for t in whole), strict=True)
    for dy, x, mean, rstd, dx in blocks:
        if needs_bias:
            grad_bias.append(dy.sum(0))
        if needs_x or needs_weight:
            xhat = torch.sub(x, mean, out=dx).mul_(rstd)
            product = dy * xhat
        if needs_weight:
            grad_weight.append(product.sum(0))
        if needs_x:
            shift = torch.mv(dy, weight).div_(-size).unsqueeze(1)
            scaling = torch.mv(product, weight).div_(-size).unsqueeze(1)
            xhat.mul_(scaling).add_(shift).addcmul_(dy, weight).mul_(rstd)
    return grad_x if needs_x else None, _total(grad_weight), _total(grad_bias)


def _total(parts: list[Tensor]) -> Tensor | None:
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0] if parts else None


@under_autocast("float32", devices=("cuda",))
def layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """LayerNorm with its gradients by hand; as ``torch.nn.functional.layer_norm``.

    Args:
        input: (..., *normalized_shape)
        normalized_shape: the trailing axes over which mean and variance are taken
        weight: normalized_shape, or None for 1
        bias: normalized_shape, or None for 0
        eps: added to the variance

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where ``input`` does not end in ``normalized_shape``.
    """
    return LayerNormFunction.apply(input, weight, bias, tuple(normalized_shape), eps)[0]


class LayerNorm(torch.nn.LayerNorm):
    """``torch.nn.LayerNorm`` whose gradients are :class:`LayerNormFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., *normalized_shape) to the same shape."""
        shape = list(self.normalized_shape)
        return layer_norm(input, shape, self.weight, self.bias, self.eps)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), [3], draw(3), draw(3))
    yield sample(draw(4, 3), [3], label="plain")
    yield sample(draw(4, 3), [3], draw(3), None, 1e-2, label="no bias, eps")
    yield sample(draw(2, 4, 3), [4, 3], draw(4, 3), draw(4, 3), label="two axes")
    yield sample(draw(3), [3], draw(3), draw(3), label="a vector")
    yield sample(draw(4, 3, shift=1e3), [3], draw(3), draw(3), label="large mean")
    yield sample(draw(0, 3), [3], draw(3), draw(3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 3)
    yield sample(draw(2, 4, 3), (4, 3), eps=1e-3, bias=False)
    yield sample(draw(4, 3), 3, elementwise_affine=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), [512], draw(512), draw(512))
    yield sample(draw(4096, 512), [512], draw(512), draw(512))


SPEC = Spec(
    name="layer_norm",
    formula="y = weight (x - mean) rstd + bias",
    gradient="dx = rstd (g - mean(g) - x^ mean(g x^)),  g = dy weight",
    manual=layer_norm,
    native=torch.nn.functional.layer_norm,
    overrides=(torch.layer_norm,),
    samples=_samples,
    modules={LayerNorm: _modules},
    bench=_bench,
)
