r"""RMSNorm: every example is scaled to a mean square of 1 over its features.

Indices: ``n`` example, ``i`` feature, ``D`` features. Several normalized axes count as one ``i``.

Forward::

    r_n    = 1 / sqrt(1/D sum_i x_ni^2 + eps)            (N, 1)
    x^_ni  = x_ni r_n                                    (N, D)
    y_ni   = weight_i x^_ni

Backward, with g_ni = dL/dy_ni weight_i, the gradient with respect to x^::

    dL/dx_ni   = r_n (g_ni - x^_ni 1/D sum_j g_nj x^_nj)
    dL/dweight = sum_n dL/dy_n x^_n                      (D)

It is LayerNorm without the shift, and its gradient is LayerNorm's without the term that takes out
the mean: dr_n/dx_ni = -r_n^3 x_ni / D, which meets sum_j g_nj x_nj, is all there is beside r_n.

Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class RMSNormFunction(Function):
    """``x``: (N..., D...), ``weight``: (D...) or None; ``shape``: (D...)."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, shape: tuple[int, ...], eps: float | None
    ) -> Tensor:
        return torch.rms_norm(x, shape, weight, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, shape, ctx.eps = inputs
        ctx.features = tuple(range(-len(shape), 0))  # the axes of i
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_dtype, shape = x.dtype, x.shape[x.dim() - len(ctx.features) :]
        grad_y, x, w = widened(grad_y, x, weight)
        eps = torch.finfo(x.dtype).eps if ctx.eps is None else ctx.eps
        gradients = _as_derived if is_recorded() else _in_place
        grad_x, grad_weight = gradients(ctx, grad_y, x, w, eps)
        if grad_x is not None:
            grad_x = grad_x.view(x.shape).to(x_dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.view(shape).to(weight.dtype)
        return grad_x, grad_weight, None, None


def _as_derived(
    ctx: Any, grad_y: Tensor, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor | None, Tensor | None]:
    """The formulas as they stand above."""
    r = (x.square().mean(ctx.features, keepdim=True) + eps).rsqrt()
    xhat = x * r
    grad_x = grad_weight = None
    if ctx.needs_input_grad[0]:
        g = grad_y if weight is None else grad_y * weight
        grad_x = r * (g - xhat * (g * xhat).mean(ctx.features, keepdim=True))
    if ctx.needs_input_grad[1]:
        grad_weight = (grad_y * xhat).sum_to_size(x.shape[x.dim() - len(ctx.features) :])
    return grad_x, grad_weight


def _in_place(
    ctx: Any, grad_y: Tensor, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor | None, Tensor | None]:
    """The same with both sums as products of one matrix, dL/dy x, and a vector.

    That matrix's memory becomes ``grad_x``; neither g nor x^ is written down.
    """
    size = math.prod(x.shape[i] for i in ctx.features)
    rows = x.numel() // max(size, 1)
    grad_y, x = grad_y.reshape(rows, size), x.reshape(rows, size)
    r = torch.linalg.vector_norm(x, dim=1).square_().div_(size).add_(eps).rsqrt_()
    product = grad_y * x
    grad_x = grad_weight = None
    if ctx.needs_input_grad[1]:
        grad_weight = torch.mv(product.t(), r)
    if ctx.needs_input_grad[0]:
        weight = x.new_ones(size) if weight is None else weight.reshape(size)
        along_x = torch.mv(product, weight).mul_(r).mul_(r).div_(-size)
        grad_x = torch.mul(x, along_x.unsqueeze(1), out=product)
        grad_x.addcmul_(grad_y, weight).mul_(r.unsqueeze(1))
    return grad_x, grad_weight


@under_autocast("float32", devices=("cuda",))
def rms_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """RMSNorm with its gradients by hand; as ``torch.nn.functional.rms_norm``.

    Args:
        input: (..., *normalized_shape)
        normalized_shape: the trailing axes over which the mean square is taken
        weight: normalized_shape, or None for 1
        eps: added to the mean square; None for the smallest step of the dtype computed in

    Returns:
        The shape of ``input``.

    Raises:
        RuntimeError: From torch, where ``input`` does not end in ``normalized_shape``.
    """
    if input.is_complex():  # of which torch takes squares without a modulus
        return torch.rms_norm(input, normalized_shape, weight, eps)
    return RMSNormFunction.apply(input, weight, tuple(normalized_shape), eps)


class RMSNorm(torch.nn.RMSNorm):
    """``torch.nn.RMSNorm`` whose gradients are :class:`RMSNormFunction`'s."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., *normalized_shape) to the same shape."""
        return rms_norm(x, list(self.normalized_shape), self.weight, self.eps)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), [3], draw(3))
    yield sample(draw(4, 3), [3], label="plain")
    yield sample(draw(2, 4, 3), [4, 3], draw(4, 3), 1e-2, label="two axes, eps")
    yield sample(draw(3), [3], draw(3), label="a vector")
    yield sample(draw(0, 3), [3], draw(3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), [4], label="features differ")
    yield sample(draw(4, 3), [3], draw(4), label="weight differs")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 3)
    yield sample(draw(2, 4, 3), (4, 3), eps=1e-3, elementwise_affine=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), [512], draw(512))
    yield sample(draw(4096, 512), [512], draw(512))


SPEC = Spec(
    name="rms_norm",
    formula="y = weight x r,  r = 1 / sqrt(mean(x^2) + eps)",
    gradient="dx = r (g - x^ mean(g x^)),  g = dy weight,  dweight = sum dy x^",
    manual=rms_norm,
    native=torch.nn.functional.rms_norm,
    overrides=(torch.rms_norm,),
    samples=_samples,
    refused=_refused,
    modules={RMSNorm: _modules},
    bench=_bench,
)
