r"""LSTM cell: one time step of an LSTM.

Indices: ``n`` example, ``i`` input feature, ``h`` hidden unit. W = weight_ih (4 H, I) and U =
weight_hh (4 H, H) hold four blocks of rows, for i, f, g and o; so do the biases b and b'. A
product of two vectors below is element by element.

Forward::

    a = W x + b + U h + b'                        (N, 4 H)
    i, f, o = sigmoid of their blocks,  g = tanh of its block
    c' = f c + i g                                (N, H)
    h' = o tanh(c')                               (N, H)

Backward, through each line in turn, the last one first. c' is met twice: as a result, and in h'::

    G   = dL/dc' + dL/dh' o (1 - tanh(c')^2)      (N, H)    all that reaches c'
    D_i = G g i (1 - i)      D_f = G c f (1 - f)
    D_g = G i (1 - g^2)      D_o = dL/dh' tanh(c') o (1 - o)
    dL/dx = D W    (N, I)    dL/dW = D^T x  (4 H, I)    dL/db = dL/db' = sum_n D_n  (4 H)
    dL/dh = D U    (N, H)    dL/dU = D^T h  (4 H, H)
    dL/dc = G f    (N, H)

The gates are computed again: that keeps nothing but the arguments and c'.

Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", section 4; the forget gate: Gers,
Schmidhuber & Cummins (2000), "Learning to Forget".
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


class LSTMCellFunction(Function):
    """``x``: (N, I), ``h`` and ``c``: (N, H), W: (4 H, I), U: (4 H, H), biases: (4 H) or None."""

    @staticmethod
    def forward(
        x: Tensor,
        h: Tensor,
        c: Tensor,
        w: Tensor,
        u: Tensor,
        b: Tensor | None,
        b_h: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if is_recorded():  # torch's own cannot be batched
            i, f, g, o = _gates(x, h, w, u, b, b_h)
            c = f * c + i * g
            return o * torch.tanh(c), c
        return torch.lstm_cell(x, (h, c), w, u, b, b_h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        x, h, c, w, u, b, b_h, c_new = saved = ctx.saved_tensors
        arguments, needs = (x, h, w, u, b, b_h), ctx.needs_input_grad
        dtype, (x, h, c, w, u, b, b_h, c_new) = c.dtype, widened(*saved)
        grad_h, grad_c = widened(grad_h, grad_c)
        i, f, g, o = _gates(x, h, w, u, b, b_h)
        t = torch.tanh(c_new)
        grad = grad_c + grad_h * o * (1 - t) * (1 + t)
        delta = torch.cat(
            (
                grad * g * i * (1 - i),
                grad * c * f * (1 - f),
                grad * i * (1 - g) * (1 + g),
                grad_h * t * o * (1 - o),
            ),
            -1,
        )
        grad_x, grad_before, *rest = cell_gradients(
            delta, delta, arguments, (*needs[:2], *needs[3:])
        )
        return grad_x, grad_before, (grad * f).to(dtype), *rest


def _gates(
    x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None, b_h: Tensor | None
) -> tuple[Tensor, ...]:
    """i, f, g and o."""
    i, f, g, o = (linear(x, w, b) + linear(h, u, b_h)).chunk(4, -1)
    return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)


@of_real_numbers(torch.lstm_cell)
@promoted_under_autocast
def lstm_cell(
    input: Tensor,
    hx: tuple[Tensor, Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM with its gradients by hand; as ``torch.lstm_cell``.

    Args:
        input: (N, I)
        hx: h and c before, each (N, H)
        w_ih: (4 H, I)
        w_hh: (4 H, H)
        b_ih: (4 H) or None
        b_hh: (4 H) or None

    Returns:
        h and c after, each (N, H).

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return LSTMCellFunction.apply(input, *hx, w_ih, w_hh, b_ih, b_hh)


class LSTMCell(torch.nn.LSTMCell):
    """``torch.nn.LSTMCell`` whose gradients are :class:`LSTMCellFunction`'s."""

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map (N, I) or (I), and the states before, to the states after."""
        return under_by_hand(super().forward, input, hx)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), (draw(2, 4), draw(2, 4)), draw(16, 3), draw(16, 4), draw(16), draw(16))
    yield sample(draw(2, 3), (draw(2, 4), draw(2, 4)), draw(16, 3), draw(16, 4), label="no bias")
    yield sample(
        draw(0, 3),
        (draw(0, 4), draw(0, 4)),
        draw(16, 3),
        draw(16, 4),
        draw(16),
        draw(16),
        label="empty",
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(
        draw(2, 5), (draw(2, 4), draw(2, 4)), draw(16, 3), draw(16, 4), label="features differ"
    )
    yield sample(
        draw(3, 3), (draw(2, 4), draw(2, 4)), draw(16, 3), draw(16, 4), label="examples differ"
    )


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), 3, 4)
    yield sample((draw(3), (draw(4), draw(4))), 3, 4, bias=False)


def _bench(draw: Draw) -> Iterator[Sample]:
    for n, i, h in ((64, 64, 64), (256, 256, 512)):
        weights = draw(4 * h, i, scale=0.1), draw(4 * h, h, scale=0.1), draw(4 * h), draw(4 * h)
        yield sample(draw(n, i), (draw(n, h), draw(n, h)), *weights)


SPEC = Spec(
    name="lstm_cell",
    formula="c' = f c + i g,  h' = o tanh(c')",
    gradient="G = dc' + dh' o (1 - tanh(c')^2),  D = (G g i', G c f', G i g', dh' tanh(c') o')",
    manual=lstm_cell,
    native=torch.lstm_cell,
    samples=_samples,
    refused=_refused,
    modules={LSTMCell: _modules},
    bench=_bench,
)
