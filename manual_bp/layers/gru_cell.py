r"""GRU cell: one time step of a GRU.

Indices: ``n`` example, ``i`` input feature, ``h`` hidden unit. W = weight_ih (3 H, I) and U =
weight_hh (3 H, H) hold three blocks of rows, for r, z and n; so do the biases b and b'. A product
of two vectors below is element by element.

Forward::

    r = sigmoid(W_r x + b_r + U_r h + b'_r)       what of the old state n may see
    z = sigmoid(W_z x + b_z + U_z h + b'_z)       what of the old state is kept
    q = U_n h + b'_n,  n = tanh(W_n x + b_n + r q)
    h' = (1 - z) n + z h                          (N, H)

Backward, through each line in turn, the last one first. D and D' are the gradients of W x + b and
of U h + b', which differ in the block of n alone, where r stands between::

    D_n = dL/dh' (1 - z)(1 - n^2)                 D'_n = D_n r
    D_z = dL/dh' (h - n) z (1 - z) = D'_z
    D_r = D_n q r (1 - r) = D'_r
    dL/dx = D W   (N, I)                          dL/dh = D' U + dL/dh' z   (N, H)
    dL/dW = D^T x  (3 H, I)                       dL/dU = D'^T h  (3 H, H)
    dL/db = sum_n D_n  (3 H)                      dL/db' = sum_n D'_n  (3 H)

The gates are computed again: that keeps nothing but the arguments.

Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
Machine Translation", section 2.3; r applied after U_n, as in cuDNN and torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, of_real_numbers, widened
from manual_bp.recurrent import cell_gradients, promoted_under_autocast
from manual_bp.spec import Draw, Sample, Spec, sample


class GRUCellFunction(Function):
    """``x``: (N, I), ``h``: (N, H), W: (3 H, I), U: (3 H, H), ``b``, ``b_h``: (3 H) or None."""

    @staticmethod
    def forward(
        x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None, b_h: Tensor | None
    ) -> Tensor:
        if is_recorded():  # torch's own cannot be batched
            _, z, _, n = _gates(x, h, w, u, b, b_h)
            return (1 - z) * n + z * h
        return torch.gru_cell(x, h, w, u, b, b_h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        arguments = ctx.saved_tensors
        x, h, w, u, b, b_h = widened(*arguments)
        (grad,) = widened(grad_y)
        r, z, q, n = _gates(x, h, w, u, b, b_h)
        d_n = grad * (1 - z) * (1 - n) * (1 + n)
        d_z = grad * (h - n) * z * (1 - z)
        d_r = d_n * q * r * (1 - r)
        delta_x = torch.cat((d_r, d_z, d_n), -1)
        delta_h = torch.cat((d_r, d_z, d_n * r), -1)
        grads = cell_gradients(delta_x, delta_h, arguments, ctx.needs_input_grad)
        if grads[1] is not None:
            grads[1] = grads[1] + (grad * z).to(h.dtype)
        return tuple(grads)


def _gates(
    x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None, b_h: Tensor | None
) -> tuple[Tensor, ...]:
    """r, z, q and n."""
    x_r, x_z, x_n = linear(x, w, b).chunk(3, -1)
    h_r, h_z, q = linear(h, u, b_h).chunk(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    return r, z, q, torch.tanh(x_n + r * q)


@of_real_numbers(torch.gru_cell)
@promoted_under_autocast
def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step of a GRU with its gradients by hand; as ``torch.gru_cell``.

    Args:
        input: (N, I)
        hx: (N, H), the state before
        w_ih: (3 H, I)
        w_hh: (3 H, H)
        b_ih: (3 H) or None
        b_hh: (3 H) or None

    Returns:
        (N, H), the state after.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return GRUCellFunction.apply(input, hx, w_ih, w_hh, b_ih, b_hh)


class GRUCell(torch.nn.GRUCell):
    """``torch.nn.GRUCell`` whose gradients are :class:`GRUCellFunction`'s."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Map (N, I) or (I), and the state before, to the state after."""
        return under_by_hand(super().forward, input, hx)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), draw(2, 4), draw(12, 3), draw(12, 4), draw(12), draw(12))
    yield sample(draw(2, 3), draw(2, 4), draw(12, 3), draw(12, 4), label="no bias")
    yield sample(
        draw(0, 3), draw(0, 4), draw(12, 3), draw(12, 4), draw(12), draw(12), label="empty"
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 5), draw(2, 4), draw(12, 3), draw(12, 4), label="features differ")
    yield sample(draw(3, 3), draw(2, 4), draw(12, 3), draw(12, 4), label="examples differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), 3, 4)
    yield sample((draw(3), draw(4)), 3, 4, bias=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    for n, i, h in ((64, 64, 64), (256, 256, 512)):
        weights = draw(3 * h, i, scale=0.1), draw(3 * h, h, scale=0.1), draw(3 * h), draw(3 * h)
        yield sample(draw(n, i), draw(n, h), *weights)


SPEC = Spec(
    name="gru_cell",
    formula="h' = (1 - z) n + z h",
    gradient="D_n = dh' (1 - z)(1 - n^2),  D_z = dh' (h - n) z (1 - z),  D_r = D_n q r (1 - r)",
    manual=gru_cell,
    native=torch.gru_cell,
    samples=_samples,
    refused=_refused,
    modules={GRUCell: _modules},
    bench=_bench,
)
