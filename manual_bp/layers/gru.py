r"""GRU: a recurrent net whose state is an average of what it was and what it could be.

Indices: ``t`` time step, ``n`` example, ``i`` input feature, ``h`` hidden unit. W = weight_ih
(3 H, I) and U = weight_hh (3 H, H) hold three blocks of rows, for r, z and n; so do the biases b
and b'. A product of two vectors below is element by element.

Forward, for t = 1, ..., T from a given h_0::

    r_t = sigmoid(W_r x_t + b_r + U_r h_(t-1) + b'_r)        what of the old state n may see
    z_t = sigmoid(W_z x_t + b_z + U_z h_(t-1) + b'_z)        what of the old state is kept
    q_t = U_n h_(t-1) + b'_n
    n_t = tanh(W_n x_t + b_n + r_t q_t)
    h_t = (1 - z_t) n_t + z_t h_(t-1),  y = h                (T, N, H)

Backward through time, from the last step to the first. h_t reaches the loss as y_t, through the
average of the next step and through its gates::

    dL/dh_t = dL/dy_t + dL/dh_(t+1) z_(t+1) + D'_(t+1) U     (N, H)
    D'_t    = dL/d(U h_(t-1) + b')_t = dL/dh_t (s_r, s_z, s_n r)_t        (N, 3 H)
    D_t     = dL/d(W x_t + b)_t      = dL/dh_t (s_r, s_z, s_n)_t          (N, 3 H)
              s_n = (1 - z)(1 - n^2),  s_z = (h_before - n) z (1 - z),  s_r = s_n q r (1 - r)

The slopes s do not depend on any gradient: they are computed for all steps at once, and what has
to wait for its turn is the first line. The rest is one product each: a sum over t and n of products
of two vectors is one product of two matrices with T N rows, read once instead of T times::

    dL/dx = D W  (T, N, I)      dL/dW = sum_t sum_n D_tn x_tn^T           (3 H, I)
    dL/db = sum_t sum_n D_tn    dL/dU = sum_t sum_n D'_tn h_(t-1)n^T      (3 H, H)
    dL/db' = sum_t sum_n D'_tn  dL/dh_0 as dL/dh_t with t = 0, y_0 = 0    (N, H)

Where z is near 1 the gradient passes from step to step undiminished: hence the gate.

Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
Machine Translation", section 2.3; r_t applied after U_n, as in cuDNN and torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, of_real_numbers, widened
from manual_bp.recurrent import (
    Steps,
    checked,
    directions,
    promoted_under_autocast,
    refreshed,
    through_layers,
    total,
    weight_gradients,
)
from manual_bp.spec import Draw, Sample, Spec, sample


class GRUFunction(Function):
    """One layer, D directions. ``x``: (T, N, I), or packed (rows, I) with ``sizes`` of the steps.

    ``h0``: (D, N, H); ``weights``: W, U and b, b', if any, of each direction.
    """

    @staticmethod
    def forward(
        x: Tensor, h0: Tensor, sizes: tuple[int, ...] | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        dtype = x.dtype
        x, h0, *weights = widened(x, h0, *weights)  # type: ignore[assignment]
        ys, ends, kept = [], [], 2 * h0.shape[-1]
        gates = []
        for d, (w, u, *biases), steps in directions(weights, len(h0), x, sizes):
            b, b_h = biases or (None, None)
            rows = [(a[:, :kept], a[:, kept:]) for a in steps.split(linear(x, w, b))]
            h, done = h0[d], {}
            for t in steps:
                before = h[: len(rows[t][0])]
                of_h = linear(before, u, b_h)
                rz, q = (rows[t][0] + of_h[:, :kept]).sigmoid_(), of_h[:, kept:]
                r, z = rz.chunk(2, -1)
                n = torch.addcmul(rows[t][1], r, q).tanh_()
                done[t] = rz, n, q, torch.lerp(n, before, z)
                h = refreshed(h, done[t][-1])
            *of_steps, y = steps.join_each(done)
            gates += of_steps
            ys.append(y)
            ends.append(h)
        y = ys[0] if len(ys) == 1 else torch.cat(ys, -1)
        return y.to(dtype), torch.stack(ends).to(dtype), *gates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, h0, ctx.sizes, *weights = inputs
        y, _, *gates = output
        ctx.mark_non_differentiable(*gates)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h0, y, *weights, *gates)

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_end: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        dtype, many = saved[0].dtype, len(ctx.needs_input_grad)
        x, h0, y, *weights = widened(*saved)
        weights, gates = weights[: many - 3], weights[many - 3 :]
        if grad_y is None and grad_end is None:
            return (None,) * many
        grad_y, grad_end = widened(
            torch.zeros_like(y) if grad_y is None else grad_y,
            torch.zeros_like(h0) if grad_end is None else grad_end,
        )
        grads_x, grads_h0, grad_weights = [], [], []  # type: ignore[var-annotated]
        for d, (w, u, *biases), steps in directions(weights, len(h0), x, ctx.sizes):
            before = steps.states_before(h0[d], y.chunk(len(h0), -1)[d])
            rz, n, q = gates[3 * d : 3 * d + 3]
            if is_recorded():  # as functions of x, y and the weights
                of_x, of_h = linear(x, w, *biases[:1]), linear(before, u, *biases[1:])
                kept = 2 * n.shape[-1]
                rz, q = torch.sigmoid(of_x[..., :kept] + of_h[..., :kept]), of_h[..., kept:]
                n = torch.tanh(torch.addcmul(of_x[..., kept:], rz.chunk(2, -1)[0], q))
            r, z = rz.chunk(2, -1)
            s_n = (1 - z) * (1 - n) * (1 + n)
            s_z = (before - n) * z * (1 - z)
            s_r = s_n * q * r * (1 - r)
            slopes = torch.stack((s_r, s_z, s_n * r), -2)  # (T, N, 3, H)
            blame = _as_derived if is_recorded() or ctx.sizes else _in_place
            grad_h, delta_h, grad_h0 = blame(
                grad_y.chunk(len(h0), -1)[d], grad_end[d], z, slopes, u, steps
            )
            delta_x = torch.cat((delta_h[..., : 2 * n.shape[-1]], grad_h * s_n), -1)
            needs = ctx.needs_input_grad[3 + len(grad_weights) :]
            grad_weights += weight_gradients(delta_x, delta_h, x, before, biases, needs)
            grads_x.append(delta_x @ w if ctx.needs_input_grad[0] else None)
            grads_h0.append(grad_h0)
        grads = total(grads_x), torch.stack(grads_h0), None, *grad_weights
        return tuple(None if g is None else g.to(dtype) for g in grads)


def _as_derived(
    grad_y: Tensor, grad_h: Tensor, z: Tensor, slopes: Tensor, u: Tensor, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """dL/dh and D' of all steps, and dL/dh_0."""
    grads, z_of, slopes_of = list(steps.split(grad_y)), steps.split(z), steps.split(slopes)
    for t in reversed(steps):
        grads[t] = grads[t] + grad_h[: len(grads[t])]
        delta = (slopes_of[t] * grads[t].unsqueeze(-2)).flatten(-2)
        grad_h = refreshed(grad_h, grads[t] * z_of[t] + delta @ u)
    grads_h = steps.join(grads)
    return grads_h, (slopes * grads_h.unsqueeze(-2)).flatten(-2), grad_h


def _in_place(
    grad_y: Tensor, grad_h: Tensor, z: Tensor, slopes: Tensor, u: Tensor, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for padded sequences in one buffer; ``slopes`` becomes D'."""
    grads = grad_y.clone(memory_format=torch.contiguous_format)
    rows, z_of, slopes_of = grads.unbind(), z.unbind(), slopes.unbind()
    order = list(reversed(steps))
    rows[order[0]].add_(grad_h)
    grad_h0 = torch.zeros_like(grad_h)
    for t, earlier in zip(order, (*order[1:], None), strict=True):
        delta = slopes_of[t].mul_(rows[t].unsqueeze(-2)).flatten(-2)
        into = grad_h0 if earlier is None else rows[earlier]
        into.addcmul_(rows[t], z_of[t]).addmm_(delta, u)
    return grads, slopes.flatten(-2), grad_h0


@of_real_numbers(torch.gru)
@promoted_under_autocast
def gru(*args: Any) -> tuple[Tensor, ...]:
    """GRU with its gradients by hand; as ``torch.gru``.

    Args:
        args: ``(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
            batch_first)``, with ``input`` (T, N, I), or (N, T, I) where ``batch_first``; ``hx``
            (layers * directions, N, H); ``params`` a list of W, U, b, b' for each layer and
            direction. Packed: ``(data, batch_sizes, hx, params, has_biases, num_layers, dropout,
            train, bidirectional)`` with ``data`` (rows, I).

    Returns:
        ``y``: (T, N, directions * H) or like ``input``, and the last states, like ``hx``.

    Raises:
        RuntimeError: Where the number of weights or a shape does not fit.
    """
    return through_layers(_layer, 3, *args)


def _layer(x: Tensor, states: Any, sizes: Any, *weights: Tensor) -> Any:
    return GRUFunction.apply(x, *states, sizes, *weights)[:2]


class GRU(torch.nn.GRU):
    """``torch.nn.GRU`` whose gradients are :class:`GRUFunction`'s."""

    def forward(self, input: Any, hx: Tensor | None = None) -> Any:
        """Map (T, N, I), (T, I) or a packed sequence to ``y`` and the last states."""
        return under_by_hand(super().forward, input, hx)


def _weights(draw: Draw, count: int, x: int, h: int) -> list[Tensor]:
    shapes = ((3 * h, x), (3 * h, h), (3 * h,), (3 * h,)) * count
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
    yield sample((draw(5, 2, 3), draw(1, 2, 4)), 3, 4, bias=False)
    yield sample(
        (draw(2, 5, 3), draw(4, 2, 4)),
        *(3, 4, 2),
        batch_first=True,
        dropout=0.4,
        bidirectional=True,
    )
    yield sample(draw(5, 3), 3, 4, label="unbatched")
    sequences = [draw.fixed(4, 3), draw.fixed(2, 3)]
    yield sample((torch.nn.utils.rnn.pack_sequence(sequences),), 3, 4, label="packed")


def _bench(draw: Draw) -> Iterator[Sample]:
    for t, n, i, h in ((20, 8, 32, 32), (50, 32, 64, 128)):
        yield sample(
            *(draw(t, n, i), draw(1, n, h), _weights(draw, 1, i, h)),
            *(True, 1, 0.0, True, False, False),
        )


SPEC = Spec(
    name="gru",
    formula="h_t = (1 - z_t) n_t + z_t h_(t-1)",
    gradient="dh_t = dy_t + dh_(t+1) z_(t+1) + D'_(t+1) U,  dW = D^T X,  dU = D'^T H_before",
    manual=gru,
    native=checked(torch.gru, gates=3),
    overrides=(torch.gru,),
    samples=_samples,
    refused=_refused,
    modules={GRU: _modules},
    bench=_bench,
)
