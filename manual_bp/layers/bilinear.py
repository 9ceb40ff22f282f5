r"""Bilinear: every output is a weighted sum of every product of two inputs.

Indices: ``n`` example, ``i`` first input, ``j`` second input, ``o`` output. All leading axes count
as one long ``n``.

Forward::

    y_no = sum_ij x1_ni W_oij x2_nj + b_o                           (N, O)

Backward, from g = dL/dy (N, O). Whatever is not summed over the gradient's own indices is::

    dL/dx1_ni = sum_oj g_no x2_nj W_oij                             (N, I)
    dL/dx2_nj = sum_oi g_no x1_ni W_oij                             (N, J)
    dL/dW_oij = sum_n  g_no x1_ni x2_nj                             (O, I, J)
    dL/db_o   = sum_n  g_no                                         (O)

Each triple product is a product of two, laid out as a row per example, and one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, of_real_numbers, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class BilinearFunction(Function):
    """``x1``: (..., I), ``x2``: (..., J), ``weight``: (O, I, J), ``bias``: (O) or None."""

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch._C._are_functorch_transforms_active():  # torch's own does not go through vmap
            y = torch.einsum("...i,oij,...j->...o", x1, weight, x2)
            return y if bias is None else y + bias
        return torch.bilinear(x1, x2, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, weight, bias = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x1, x2, weight)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, weight = ctx.saved_tensors
        outputs, i, j = weight.shape
        a, b, w, g = widened(x1, x2, weight, grad_y)
        a, b, g = a.reshape(-1, i), b.reshape(-1, j), g.reshape(-1, outputs)
        grad_x1 = grad_x2 = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            gb = (g.unsqueeze(2) * b.unsqueeze(1)).flatten(1)  # (N, O J)
            grad_x1 = gb @ w.transpose(1, 2).reshape(outputs * j, i)
            grad_x1 = grad_x1.view_as(x1).to(x1.dtype)
        if any(ctx.needs_input_grad[1:3]):
            ga = (g.unsqueeze(2) * a.unsqueeze(1)).flatten(1)  # (N, O I)
            if ctx.needs_input_grad[1]:
                grad_x2 = (ga @ w.reshape(outputs * i, j)).view_as(x2).to(x2.dtype)
            if ctx.needs_input_grad[2]:
                grad_weight = (ga.t() @ b).view_as(weight).to(weight.dtype)
        if ctx.needs_input_grad[3]:
            grad_bias = g.sum(0).to(ctx.bias_dtype)
        return grad_x1, grad_x2, grad_weight, grad_bias


@of_real_numbers(torch.nn.functional.bilinear)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x1 W x2 + b`` with its gradients by hand; as ``torch.nn.functional.bilinear``.

    Args:
        input1: (..., I)
        input2: (..., J), the same leading shape
        weight: (O, I, J)
        bias: (O), or None

    Returns:
        (..., O)

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return BilinearFunction.apply(input1, input2, weight, bias)


class Bilinear(torch.nn.Bilinear):
    """``torch.nn.Bilinear`` whose gradients are :class:`BilinearFunction`'s."""

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Map (..., in1_features) and (..., in2_features) to (..., out_features)."""
        return bilinear(input1, input2, self.weight, self.bias)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(5, 4), draw(2, 3, 4), draw(2))
    yield sample(draw(5, 3), draw(5, 4), draw(2, 3, 4), None, label="no bias")
    yield sample(draw(2, 5, 3), draw(2, 5, 4), draw(2, 3, 4), draw(2), label="three axes")
    yield sample(draw(3), draw(4), draw(2, 3, 4), draw(2), label="vectors")
    yield sample(draw(0, 3), draw(0, 4), draw(2, 3, 4), draw(2), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(5, 4), draw(2, 3, 3), label="features differ")
    yield sample(draw(5, 3), draw(4, 4), draw(2, 3, 4), label="examples differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(5, 3), draw(5, 4)), 3, 4, 2)
    yield sample((draw(2, 5, 3), draw(2, 5, 4)), 3, 4, 2, bias=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 32), draw(64, 32), draw(32, 32, 32), draw(32))
    yield sample(draw(512, 64), draw(512, 64), draw(64, 64, 64), draw(64))


SPEC = Spec(
    name="bilinear",
    formula="y_o = x1 W_o x2 + b_o",
    gradient="dx1 = sum_o dy_o W_o x2,  dx2 = sum_o dy_o W_o^T x1,  dW_o = sum_n dy_o x1 x2^T",
    manual=bilinear,
    native=torch.nn.functional.bilinear,
    samples=_samples,
    refused=_refused,
    modules={Bilinear: _modules},
    bench=_bench,
)
