r"""RNN cell: one time step of a recurrent net.

Indices: ``n`` example, ``i`` input feature, ``h`` hidden unit, ``j`` the same one step earlier. W =
weight_ih, U = weight_hh, b and b' their biases.

Forward, with f = tanh or relu::

    h'_nh = f(sum_i x_ni W_hi + b_h + sum_j h_nj U_hj + b'_h)      (N, H)

Backward. Two linear layers meet in a sum, so both are given the same gradient D::

    D      = dL/dh' (1 - h'^2), or dL/dh' where h' > 0             (N, H)
    dL/dx  = D W    (N, I)       dL/dW = D^T x  (H, I)
    dL/dh  = D U    (N, H)       dL/dU = D^T h  (H, H)
    dL/db  = dL/db' = sum_n D_n  (H)

Over many steps, :mod:`manual_bp.layers.rnn` has the same with one product for all of them.

Elman (1990), "Finding Structure in Time".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, of_real_numbers, under_autocast, widened
from manual_bp.recurrent import cell_gradients
from manual_bp.spec import Draw, Sample, Spec, sample


class RNNCellFunction(Function):
    """``x``: (N, I), ``h``: (N, H), W: (H, I), U: (H, H), ``b`` and ``b_h``: (H) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        h: Tensor,
        w: Tensor,
        u: Tensor,
        b: Tensor | None,
        b_h: Tensor | None,
        relu: bool,
    ) -> Tensor:
        if is_recorded():  # torch's own cannot be batched
            return (torch.relu if relu else torch.tanh)(linear(x, w, b) + linear(h, u, b_h))
        return (torch.rnn_relu_cell if relu else torch.rnn_tanh_cell)(x, h, w, u, b, b_h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *arguments, ctx.relu = inputs
        ctx.save_for_backward(*arguments, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *arguments, y = ctx.saved_tensors
        grad, y = widened(grad_y, y)
        # (1 - y)(1 + y) is 1 - y^2, and exact where y is near 1
        delta = grad.masked_fill(y <= 0, 0) if ctx.relu else grad * (1 - y) * (1 + y)
        return *cell_gradients(delta, delta, arguments, ctx.needs_input_grad), None


@of_real_numbers(torch.rnn_tanh_cell)
@under_autocast("lower")
def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step with f = tanh, its gradients by hand; as ``torch.rnn_tanh_cell``.

    Args:
        input: (N, I)
        hx: (N, H), the state before
        w_ih: (H, I)
        w_hh: (H, H)
        b_ih: (H) or None
        b_hh: (H) or None

    Returns:
        (N, H), the state after.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return RNNCellFunction.apply(input, hx, w_ih, w_hh, b_ih, b_hh, False)


@of_real_numbers(torch.rnn_relu_cell)
@under_autocast("lower")
def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step with f = relu; arguments and result as :func:`rnn_tanh_cell`'s."""
    return RNNCellFunction.apply(input, hx, w_ih, w_hh, b_ih, b_hh, True)


class RNNCell(torch.nn.RNNCell):
    """``torch.nn.RNNCell`` whose gradients are :class:`RNNCellFunction`'s."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Map (N, I) or (I), and the state before, to the state after."""
        return under_by_hand(super().forward, input, hx)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), draw(2, 4), draw(4, 3), draw(4, 4), draw(4), draw(4))
    yield sample(draw(2, 3), draw(2, 4), draw(4, 3), draw(4, 4), label="no bias")
    yield sample(draw(0, 3), draw(0, 4), draw(4, 3), draw(4, 4), draw(4), draw(4), label="empty")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 5), draw(2, 4), draw(4, 3), draw(4, 4), label="features differ")
    yield sample(draw(3, 3), draw(2, 4), draw(4, 3), draw(4, 4), label="examples differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), 3, 4)
    yield sample((draw(3), draw(4)), 3, 4, bias=False, nonlinearity="relu")


def _bench(draw: Draw) -> Iterator[Sample]:
    for n, i, h in ((64, 64, 64), (256, 256, 512)):
        weights = draw(h, i, scale=0.1), draw(h, h, scale=0.1), draw(h), draw(h)
        yield sample(draw(n, i), draw(n, h), *weights)


TANH = Spec(
    name="rnn_tanh_cell",
    formula="h' = tanh(W x + b + U h + b')",
    gradient="D = dh' (1 - h'^2),  dx = D W,  dh = D U,  dW = D^T x,  dU = D^T h",
    manual=rnn_tanh_cell,
    native=torch.rnn_tanh_cell,
    samples=_samples,
    refused=_refused,
    modules={RNNCell: _modules},
    bench=_bench,
)

RELU = Spec(
    name="rnn_relu_cell",
    formula="h' = relu(W x + b + U h + b')",
    gradient="D = dh' where h' > 0,  dx = D W,  dh = D U,  dW = D^T x,  dU = D^T h",
    manual=rnn_relu_cell,
    native=torch.rnn_relu_cell,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
