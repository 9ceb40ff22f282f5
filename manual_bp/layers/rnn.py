r"""RNN: one layer, applied again at every time step to the input and to what it said before.

Indices: ``t`` time step, ``n`` example, ``i`` input feature, ``h`` hidden unit, ``j`` the same one
step earlier. W = weight_ih, U = weight_hh, b = bias_ih + bias_hh.

Forward, for t = 1, 2, ..., T from a given h_0, with f = tanh or relu::

    a_tnh = sum_i x_tni W_hi + sum_j h_(t-1)nj U_hj + b_h      (T, N, H)
    h_tnh = f(a_tnh),  y = h

Backward through time. h_t reaches the loss as the output y_t and through step t+1, whose share is
known once that step's is; so the steps are taken from the last to the first::

    dL/dh_t = dL/dy_t + dL/da_(t+1) U                          (N, H)
    dL/da_t = dL/dh_t f'(a_t)                                  (N, H)
                  tanh: 1 - h_t^2,  relu: 1 where h_t > 0; both are told from the output
    dL/dh_0 = dL/da_1 U                                        (N, H)

Those are all that has to wait for its turn. W, U and b are used at every step, so their gradients
are sums over t of one product each, and a sum of products over t and n is one product of matrices
with T N rows::

    dL/dx   = dL/da W                                          (T, N, I)
    dL/dW   = sum_t sum_n dL/da_tn x_tn^T     = dA^T X         (H, I)
    dL/dU   = sum_t sum_n dL/da_tn h_(t-1)n^T = dA^T H_before  (H, H)
    dL/db   = sum_t sum_n dL/da_tn                             (H)

The obvious way adds T small products up, step by step, into W's gradient and U's. T times the
rows in one product are T times fewer passes over those gradients. A second direction is the same
on the steps in reverse, next to the first; a further layer takes ``y`` for its ``x``.

Elman (1990), "Finding Structure in Time"; Werbos (1990), "Backpropagation Through Time: What It
Does and How to Do It", section III.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, of_real_numbers, under_autocast, widened
from manual_bp.recurrent import (
    Steps,
    checked,
    directions,
    refreshed,
    through_layers,
    total,
    weight_gradients,
)
from manual_bp.spec import Draw, Sample, Spec, sample


class RNNFunction(Function):
    """One layer, D directions. ``x``: (T, N, I), or packed (rows, I) with ``sizes`` of the steps.

    ``h0``: (D, N, H); ``weights``: W, U and the two biases, if any, of each direction.
    """

    @staticmethod
    def forward(
        x: Tensor, h0: Tensor, relu: bool, sizes: tuple[int, ...] | None, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = x.dtype
        x, h0, *weights = widened(x, h0, *weights)  # type: ignore[assignment]
        activate = torch.relu_ if relu else torch.tanh_
        ys, ends = [], []
        for d, (w, u, *biases), steps in directions(weights, len(h0), x, sizes):
            y = torch.nn.functional.linear(x, w, biases[0] + biases[1] if biases else None)
            h, rows = h0[d], list(steps.split(y))
            for t in steps:
                into = None if is_recorded() else rows[t]
                rows[t] = activate(torch.addmm(rows[t], h[: len(rows[t])], u.t(), out=into))
                h = refreshed(h, rows[t])
            ys.append(steps.join(rows) if is_recorded() else y)
            ends.append(h)
        y = ys[0] if len(ys) == 1 else torch.cat(ys, -1)
        return y.to(dtype), torch.stack(ends).to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, h0, ctx.relu, ctx.sizes, *weights = inputs
        ctx.save_for_backward(x, h0, output[0], *weights)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_end: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        x, h0, y, *weights = widened(*saved)
        grad_y, grad_end = widened(grad_y, grad_end)
        grads_x, grads_h0, grad_weights = [], [], []  # type: ignore[var-annotated]
        for d, (w, u, *biases), steps in directions(weights, len(h0), x, ctx.sizes):
            h, g = y.chunk(len(h0), -1)[d], grad_y.chunk(len(h0), -1)[d]
            blame = _as_derived if is_recorded() or ctx.sizes else _in_place
            delta, grad_h0 = blame(g, grad_end[d], h, u, steps, ctx.relu)
            before = steps.states_before(h0[d], h)
            needs = ctx.needs_input_grad[4 + len(grad_weights) :]
            grad_weights += weight_gradients(delta, delta, x, before, biases, needs)
            grads_x.append(delta @ w if ctx.needs_input_grad[0] else None)
            grads_h0.append(grad_h0)
        grads = total(grads_x), torch.stack(grads_h0), None, None, *grad_weights
        return tuple(None if g is None else g.to(saved[0].dtype) for g in grads)


def _as_derived(
    grad_y: Tensor, grad_h: Tensor, h: Tensor, u: Tensor, steps: Steps, relu: bool
) -> tuple[Tensor, Tensor]:
    """The first three formulas as they stand above: dL/da of all steps, and dL/dh_0."""
    slopes = steps.split(h <= 0 if relu else (1 - h) * (1 + h))  # as 1 - h^2, more exact
    delta = list(steps.split(grad_y))
    for t in reversed(steps):
        grad = delta[t] + grad_h[: len(delta[t])]
        delta[t] = grad.masked_fill(slopes[t], 0) if relu else grad * slopes[t]
        grad_h = refreshed(grad_h, delta[t] @ u)
    return steps.join(delta), grad_h


def _in_place(
    grad_y: Tensor, grad_h: Tensor, h: Tensor, u: Tensor, steps: Steps, relu: bool
) -> tuple[Tensor, Tensor]:
    """The same for padded sequences in one buffer: the product adds itself to the step before."""
    slopes = steps.split(h <= 0 if relu else (1 - h).mul_(1 + h))
    delta = grad_y.clone(memory_format=torch.contiguous_format)
    later: Tensor | None = None
    for t in reversed(steps):
        rows = delta[t].add_(grad_h) if later is None else delta[t].addmm_(later, u)
        later = rows.masked_fill_(slopes[t], 0) if relu else rows.mul_(slopes[t])
    return delta, torch.mm(rows, u)


@of_real_numbers(torch.rnn_tanh)
@under_autocast("lower")
def rnn_tanh(*args: Any) -> tuple[Tensor, ...]:
    """A recurrent net with f = tanh, its gradients by hand; as ``torch.rnn_tanh``.

    Args:
        args: ``(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
            batch_first)``, with ``input`` (T, N, I), or (N, T, I) where ``batch_first``; ``hx``
            (layers * directions, N, H); ``params`` a list of W, U, bias_ih, bias_hh for each layer
            and direction. Packed: ``(data, batch_sizes, hx, params, has_biases, num_layers,
            dropout, train, bidirectional)`` with ``data`` (rows, I).

    Returns:
        ``y``: (T, N, directions * H) or like ``input``, and the last states, like ``hx``.

    Raises:
        RuntimeError: Where the number of weights or a shape does not fit.
    """
    return through_layers(partial(_layer, False), 1, *args)


@of_real_numbers(torch.rnn_relu)
@under_autocast("lower")
def rnn_relu(*args: Any) -> tuple[Tensor, ...]:
    """A recurrent net with f = relu; arguments and results as :func:`rnn_tanh`'s."""
    return through_layers(partial(_layer, True), 1, *args)


def _layer(relu: bool, x: Tensor, states: Any, sizes: Any, *weights: Tensor) -> Any:
    return RNNFunction.apply(x, *states, relu, sizes, *weights)


class RNN(torch.nn.RNN):
    """``torch.nn.RNN`` whose gradients are :class:`RNNFunction`'s."""

    def forward(self, input: Any, hx: Tensor | None = None) -> Any:
        """Map (T, N, I), (T, I) or a packed sequence to ``y`` and the last states."""
        return under_by_hand(super().forward, input, hx)


def _weights(draw: Draw, count: int, x: int, h: int) -> list[Tensor]:
    shapes = ((h, x), (h, h), (h,), (h,)) * count
    return [draw(*shape, scale=0.3) for shape in shapes]


def _samples(draw: Draw) -> Iterator[Sample]:
    plain = (True, 1, 0.0, True, False, False)
    yield sample(draw(3, 2, 3), draw(1, 2, 4), _weights(draw, 1, 3, 4), *plain)
    pairs = [w for w in _weights(draw, 2, 3, 4) if w.dim() == 2]
    yield sample(
        *(draw(2, 3, 3), draw(2, 2, 4), pairs, False, 1, 0.0, True, True, True),
        label="two directions, batch first, no bias",
    )
    yield sample(
        *(draw(3, 0, 3), draw(1, 0, 4), _weights(draw, 1, 3, 4), *plain), label="no examples"
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    plain = (True, 1, 0.0, True, False, False)
    weights = _weights(draw, 1, 3, 4)
    yield sample(draw(5, 2, 3), draw(1, 2, 4), weights[:3], *plain, label="a weight is missing")
    yield sample(draw(5, 2, 7), draw(1, 2, 4), weights, *plain, label="features differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 2, 3), 3, 4)
    yield sample((draw(5, 2, 3), draw(1, 2, 4)), 3, 4, nonlinearity="relu", bias=False)
    yield sample(
        (draw(2, 5, 3), draw(4, 2, 4)),
        *(3, 4, 2),
        batch_first=True,
        dropout=0.4,
        bidirectional=True,
    )
    yield sample(draw(5, 3), 3, 4, label="unbatched")
    yield sample((_packed(draw),), 3, 4, label="packed")


def _packed(draw: Draw) -> Any:
    sequences = [draw.fixed(4, 3), draw.fixed(2, 3)]
    return torch.nn.utils.rnn.pack_sequence(sequences)


def _bench(draw: Draw) -> Iterator[Sample]:
    for t, n, i, h in ((20, 8, 32, 32), (50, 32, 64, 128)):
        yield sample(
            *(draw(t, n, i), draw(1, n, h), _weights(draw, 1, i, h)),
            *(True, 1, 0.0, True, False, False),
        )


TANH = Spec(
    name="rnn_tanh",
    formula="h_t = tanh(W x_t + U h_(t-1) + b)",
    gradient="da_t = (dh_t + da_(t+1) U)(1 - h_t^2),  dW = dA^T X,  dU = dA^T H_before",
    manual=rnn_tanh,
    native=checked(torch.rnn_tanh, gates=1),
    overrides=(torch.rnn_tanh,),
    samples=_samples,
    refused=_refused,
    modules={RNN: _modules},
    bench=_bench,
)

RELU = Spec(
    name="rnn_relu",
    formula="h_t = relu(W x_t + U h_(t-1) + b)",
    gradient="da_t = dh_t + da_(t+1) U where h_t > 0,  dW = dA^T X,  dU = dA^T H_before",
    manual=rnn_relu,
    native=checked(torch.rnn_relu, gates=1),
    overrides=(torch.rnn_relu,),
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
