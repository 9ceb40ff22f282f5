r"""Linear: every output is a weighted sum of every input.

Indices: ``n`` example, ``i`` input feature, ``o`` output feature. All leading axes of ``x``
count as one long ``n``.

Forward::

    y_no = sum_i x_ni W_oi + b_o             y = x W^T + b        (N, out)

Backward, from ``dL/dy`` (N, out). Each product above is met once per pair of its indices, so
each gradient is the same sum with the roles exchanged::

    dL/dx_ni = sum_o dL/dy_no W_oi           grad_y W             (N, in)
    dL/dW_oi = sum_n dL/dy_no x_ni           grad_y^T x           (out, in)
    dL/db_o  = sum_n dL/dy_no                                     (out)

For complex numbers the factor is conjugated, as autograd's convention has it.

One learning step in words: the blame of an input is what it fed, weighted by the same weights;
the blame of a weight is what came in, times what was blamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class LinearFunction(Function):
    """``x``: (..., in), ``weight``: (out, in) or (in,), ``bias``: (out) or None."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = torch.nn.functional.linear(x, weight, bias)
        # With a bias and three axes it is a view of a tensor that has no gradient and that nobody
        # else sees. Then a change in place would go past the graph; so, a tensor of its own.
        is_view = bias is not None and x.dim() > 2
        return torch.ops.aten._unsafe_view(y, y.shape) if is_view else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.bias_shape = None if bias is None else bias.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, matrix, g = x, weight, grad_y
        if not (x.dim() == weight.dim() == 2):  # one long n; a vector of weights is one output
            matrix = weight if weight.dim() == 2 else weight.unsqueeze(0)
            n = x.shape[:-1].numel()
            rows, g = x.reshape(n, x.shape[-1]), grad_y.reshape(n, matrix.shape[0])
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.mm(g, matrix.conj())
            grad_x = grad_x if rows is x else grad_x.view(x.shape)
        if ctx.needs_input_grad[1]:
            grad_weight = torch.mm(g.t(), rows.conj())
            grad_weight = grad_weight if matrix is weight else grad_weight.view(weight.shape)
        if ctx.needs_input_grad[2]:
            # torch lets a bias broadcast; one number for each output is what a layer has.
            usual = ctx.bias_shape == matrix.shape[:1]
            grad_bias = g.sum(0) if usual else grad_y.sum_to_size(ctx.bias_shape)
        return grad_x, grad_weight, grad_bias


@under_autocast("lower")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b`` with its gradients by hand; as ``torch.nn.functional.linear``.

    Args:
        input: (..., in)
        weight: (out, in), or (in,) for one output without an axis of its own
        bias: (out), or None

    Returns:
        (..., out), in the dtype of the arguments.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return LinearFunction.apply(input, weight, bias)


class Linear(torch.nn.Linear):
    """``torch.nn.Linear`` whose gradients are :class:`LinearFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(2, 3), draw(2))
    yield sample(draw(4, 3), draw(2, 3), None, label="no bias")
    yield sample(draw(3), draw(2, 3), draw(2), label="a vector")
    yield sample(draw(2, 5, 3), draw(4, 3), draw(4), label="three axes")
    yield sample(draw(4, 3), draw(3), None, label="a vector of weights")
    yield sample(draw(0, 3), draw(2, 3), draw(2), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(2, 5), draw(2), label="features differ")
    yield sample(draw(4, 3), draw(2, 3), draw(3), label="bias differs")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 3, 2)
    yield sample(draw(2, 4, 3), 3, 5, bias=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(512, 512), draw(512))
    yield sample(draw(1024, 1024), draw(1024, 1024), draw(1024))


SPEC = Spec(
    name="linear",
    formula="y = x W^T + b",
    gradient="dx = dy W,  dW = dy^T x,  db = sum_n dy",
    manual=linear,
    native=torch.nn.functional.linear,
    samples=_samples,
    refused=_refused,
    modules={Linear: _modules},
    bench=_bench,
)
