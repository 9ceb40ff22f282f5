r"""LSTM: a recurrent net with a memory that is only ever scaled and added to.

Indices: ``t`` time step, ``n`` example, ``i`` input feature, ``h`` hidden unit. W = weight_ih
(4 H, I) and U = weight_hh (4 H, H) hold four blocks of rows, for i, f, g and o; b is the sum of
the two biases. A product of two vectors below is element by element.

Forward, for t = 1, ..., T from given h_0 and c_0::

    a_t = W x_t + b + U h_(t-1)                                       (N, 4 H)
    i_t, f_t, o_t = sigmoid of their blocks, g_t = tanh of its block
    c_t = f_t c_(t-1) + i_t g_t                                       (N, H)
    h_t = o_t tanh(c_t),  y = h                                       (T, N, H)

Backward through time, from the last step to the first. h_t reaches the loss as y_t and through
the gates of the next step; c_t through h_t and through the next c::

    dL/dh_t = dL/dy_t + dL/da_(t+1) U                                 (N, H)
    dL/dc_t = dL/dh_t o_t (1 - tanh(c_t)^2) + dL/dc_(t+1) f_(t+1)     (N, H)
    dL/da_t = dL/dc_t (s_i, s_f, s_g)_t and dL/dh_t s_o               (N, 4 H)
              s_i = g i (1 - i),  s_f = c_before f (1 - f),  s_g = i (1 - g^2)
              s_o = tanh(c) o (1 - o)

The slopes s do not depend on any gradient: they are computed for all steps at once. What has to
wait for its turn are the three lines above. The rest is one product each: a sum over t and n of
products of two vectors is one product of two matrices with T N rows, read once instead of T times::

    dL/dx = dL/da W  (T, N, I)              dL/dW = sum_t sum_n dL/da_tn x_tn^T        (4 H, I)
    dL/db = sum_t sum_n dL/da_tn  (4 H)     dL/dU = sum_t sum_n dL/da_tn h_(t-1)n^T    (4 H, H)
    dL/dh_0 = dL/da_1 U,  dL/dc_0 = dL/dc_1 f_1                                        (N, H)

Where no graph is recorded, :mod:`manual_bp.lstm_in_buffers` takes the same steps in place.

From c_(t+1) to c_t the gradient is only scaled, by f: no matrix, no slope of a nonlinearity.
Where the gate is open it passes undiminished, which is what the cell was invented for.

With a projection R = weight_hr (P, H) the state is m_t = o_t tanh(c_t) made shorter, h_t = R m_t.
Then dL/dm_t = R^T dL/dh_t takes the place of dL/dh_t in the lines for c and o, and
dL/dR = sum_t sum_n dL/dh_tn m_tn^T  (P, H).

Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", sections 3.2 and 4; the forget gate:
Gers, Schmidhuber & Cummins (2000), "Learning to Forget"; the projection: Sak, Senior & Beaufays
(2014), "Long Short-Term Memory Based Recurrent Neural Network Architectures".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, of_real_numbers, under_autocast, widened
from manual_bp.lstm_in_buffers import backward_in_buffers, forward_in_buffers
from manual_bp.recurrent import (
    Steps,
    checked,
    directions,
    over_all_steps,
    refreshed,
    through_layers,
    total,
    weight_gradients,
)
from manual_bp.spec import Draw, Sample, Spec, sample


class LSTMFunction(Function):
    """One layer, D directions. ``x``: (T, N, I), or packed (rows, I) with ``sizes`` of the steps.

    ``h0``: (D, N, P), ``c0``: (D, N, H); ``weights``: of each direction W, U, two biases, if any,
    and R where P is not H.
    """

    @staticmethod
    def forward(
        x: Tensor, h0: Tensor, c0: Tensor, sizes: tuple[int, ...] | None, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        dtype = x.dtype
        x, h0, c0, *weights = widened(x, h0, c0, *weights)  # type: ignore[assignment]
        ys, ends, last_cells, kept = [], [], [], []
        for d, given, steps in directions(weights, len(h0), x, sizes):
            w, u, biases, project = _parts(given)
            a = linear(x, w, biases[0] + biases[1] if biases else None)
            run = _join_steps if is_recorded() else forward_in_buffers
            y, h, c, *of_steps = run(a, h0[d], c0[d], u, project, steps)
            kept += of_steps
            ys.append(y)
            ends.append(h)
            last_cells.append(c)
        y = ys[0] if len(ys) == 1 else torch.cat(ys, -1)
        return y.to(dtype), torch.stack(ends).to(dtype), torch.stack(last_cells).to(dtype), *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, h0, c0, ctx.sizes, *weights = inputs
        y, _, _, *kept = output
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h0, c0, y, *weights, *kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        dtype, needs = saved[0].dtype, ctx.needs_input_grad
        x, h0, c0, y, *weights = widened(*saved)
        weights, kept = weights[: len(needs) - 4], weights[len(needs) - 4 :]
        if all(g is None for g in grads[:3]):
            return (None,) * len(needs)
        grad_y, grad_h, grad_c = (
            torch.zeros_like(t) if g is None else widened(g)[0]
            for g, t in zip(grads, (y, h0, c0), strict=False)
        )
        grads_x, grads_h0, grads_c0, grad_weights = [], [], [], []  # type: ignore[var-annotated]
        for d, given, steps in directions(weights, len(h0), x, ctx.sizes):
            w, u, biases, project = _parts(given)
            before = steps.states_before(h0[d], y.chunk(len(h0), -1)[d])
            gates, c, tanh_c = kept[3 * d : 3 * d + 3]
            if is_recorded():  # as functions of x, y and the weights
                gates, c, tanh_c = _again(x, before, c0[d], w, u, biases, steps)
            blame = _as_derived if is_recorded() or ctx.sizes else backward_in_buffers
            states = grad_y.chunk(len(h0), -1)[d], grad_h[d], grad_c[d]
            cells_before = steps.states_before(c0[d], c)
            delta, grad_h0, grad_c0, grads_h = blame(
                *states, gates, tanh_c, cells_before, u, project, steps
            )
            grad_weights += weight_gradients(
                delta, delta, x, before, biases, needs[4 + len(grad_weights) :]
            )
            if project is not None:
                m = gates.chunk(4, -1)[3] * tanh_c
                grad_weights.append(over_all_steps(grads_h, m))
            grads_x.append(delta @ w if needs[0] else None)
            grads_h0.append(grad_h0)
            grads_c0.append(grad_c0)
        found = (total(grads_x), torch.stack(grads_h0), torch.stack(grads_c0), None, *grad_weights)
        return tuple(None if g is None else g.to(dtype) for g in found)


def _parts(weights: Any) -> tuple[Tensor, Tensor, Any, Tensor | None]:
    """W, U, the biases and R."""
    w, u, *rest = weights
    return w, u, rest[:2] if len(rest) > 1 else (), rest[-1] if len(rest) % 2 else None


def _join_steps(
    a: Tensor, h: Tensor, c: Tensor, u: Tensor, project: Tensor | None, steps: Steps
) -> tuple[Tensor, ...]:
    """The forward lines above: y, the last h and c; of all steps the gates, c and tanh(c)."""
    done, rows = {}, steps.split(a)
    for t in steps:
        n = len(rows[t])
        i, f, g, o = torch.addmm(rows[t], h[:n], u.t()).chunk(4, -1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        cells = torch.addcmul(i * g, f, c[:n])
        tanh_c = torch.tanh(cells)
        y = o * tanh_c if project is None else (o * tanh_c) @ project.t()
        done[t] = y, torch.cat((i, f, g, o), -1), cells, tanh_c
        h, c = refreshed(h, y), refreshed(c, cells)
    y, *kept = steps.join_each(done)
    return y, h, c, *kept


def _again(
    x: Tensor, before: Tensor, c: Tensor, w: Tensor, u: Tensor, biases: Any, steps: Steps
) -> tuple[Tensor, Tensor, Tensor]:
    """The gates, all of them in two products, and the cells, one after the other; tanh(c)."""
    a = linear(x, w, *biases[:1]) + linear(before, u, *biases[1:])
    i, f, g, o = a.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    cells, f_of = list(steps.split(i * g)), steps.split(f)
    for t in steps:
        cells[t] = torch.addcmul(cells[t], f_of[t], c[: len(cells[t])])
        c = refreshed(c, cells[t])
    joined = steps.join(cells)
    return torch.cat((i, f, g, o), -1), joined, torch.tanh(joined)


def _as_derived(
    grad_y: Tensor,
    grad_h: Tensor,
    grad_c: Tensor,
    gates: Tensor,
    tanh_c: Tensor,
    before: Tensor,
    u: Tensor,
    project: Tensor | None,
    steps: Steps,
) -> tuple[Tensor, ...]:
    """dL/da of all steps, dL/dh_0, dL/dc_0 and dL/dh of all steps."""
    i, f, g, o = gates.chunk(4, -1)
    slopes = (g * i * (1 - i), before * f * (1 - f), i * (1 - g) * (1 + g))
    s_c, f_of = steps.split(torch.stack(slopes, -2)), steps.split(f)
    s_o = steps.split(tanh_c * o * (1 - o))
    through = steps.split(o * (1 - tanh_c) * (1 + tanh_c))
    grads, delta = list(steps.split(grad_y)), list(s_o)
    for t in reversed(steps):
        n = len(grads[t])
        grads[t] = grads[t] + grad_h[:n]
        m = grads[t] if project is None else grads[t] @ project
        cells = grad_c[:n] + m * through[t]
        delta[t] = torch.cat(((s_c[t] * cells.unsqueeze(-2)).flatten(-2), s_o[t] * m), -1)
        grad_h, grad_c = refreshed(grad_h, delta[t] @ u), refreshed(grad_c, cells * f_of[t])
    return steps.join(delta), grad_h, grad_c, steps.join(grads)


@of_real_numbers(torch.lstm)
@under_autocast("lower")
def lstm(*args: Any) -> tuple[Tensor, ...]:
    """LSTM with its gradients by hand; as ``torch.lstm``.

    Args:
        args: ``(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
            batch_first)``, with ``input`` (T, N, I), or (N, T, I) where ``batch_first``; ``hx``
            the pair of h_0 (layers * directions, N, P) and c_0 (layers * directions, N, H);
            ``params`` a list of W, U, the two biases and R for each layer and direction. Packed:
            ``(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train,
            bidirectional)`` with ``data`` (rows, I).

    Returns:
        ``y``: (T, N, directions * P) or like ``input``, and the last h and c, like ``hx``.

    Raises:
        RuntimeError: Where the number of weights or a shape does not fit.
    """
    return through_layers(_layer, 4, *args)


def _layer(x: Tensor, states: Any, sizes: Any, *weights: Tensor) -> Any:
    return LSTMFunction.apply(x, *states, sizes, *weights)[:3]


class LSTM(torch.nn.LSTM):
    """``torch.nn.LSTM`` whose gradients are :class:`LSTMFunction`'s."""

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> Any:
        """Map (T, N, I), (T, I) or a packed sequence to ``y`` and the last states."""
        return under_by_hand(super().forward, input, hx)


def _weights(draw: Draw, count: int, x: int, h: int) -> list[Tensor]:
    shapes = ((4 * h, x), (4 * h, h), (4 * h,), (4 * h,)) * count
    return [draw(*shape, scale=0.3) for shape in shapes]


def _samples(draw: Draw) -> Iterator[Sample]:
    plain = (True, 1, 0.0, True, False, False)
    yield sample(draw(3, 2, 3), (draw(1, 2, 4), draw(1, 2, 4)), _weights(draw, 1, 3, 4), *plain)
    shapes = ((12, 3), (12, 2), (2, 3)) * 2
    pairs = [draw(*shape, scale=0.3) for shape in shapes]
    yield sample(
        *(draw(2, 3, 3), (draw(2, 2, 2), draw(2, 2, 3)), pairs, False, 1, 0.0, True, True, True),
        label="two directions, batch first, no bias, projected",
    )
    yield sample(
        *(draw(3, 0, 3), (draw(1, 0, 4), draw(1, 0, 4)), _weights(draw, 1, 3, 4), *plain),
        label="no examples",
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    plain = (True, 1, 0.0, True, False, False)
    weights = _weights(draw, 1, 3, 4)
    yield sample(
        draw(5, 2, 3),
        (draw(1, 2, 4), draw(1, 2, 4)),
        weights[:3],
        *plain,
        label="a weight is missing",
    )
    yield sample(
        draw(5, 2, 7), (draw(1, 2, 4), draw(1, 2, 4)), weights, *plain, label="features differ"
    )


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 2, 3), 3, 4)
    yield sample((draw(5, 2, 3), (draw(1, 2, 4), draw(1, 2, 4))), 3, 4, bias=False)
    yield sample(draw(5, 2, 3), 3, 4, 2, bidirectional=True, proj_size=2)
    yield sample(
        (draw(2, 5, 3), (draw(4, 2, 4), draw(4, 2, 4))),
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
            *(draw(t, n, i), (draw(1, n, h), draw(1, n, h)), _weights(draw, 1, i, h)),
            *(True, 1, 0.0, True, False, False),
        )


SPEC = Spec(
    name="lstm",
    formula="c_t = f_t c_(t-1) + i_t g_t,  h_t = o_t tanh(c_t)",
    gradient="dc_t = dh_t o (1 - tanh(c)^2) + dc_(t+1) f_(t+1),  dW = dA^T X,  dU = dA^T H_before",
    manual=lstm,
    native=checked(torch.lstm, gates=4),
    overrides=(torch.lstm,),
    samples=_samples,
    refused=_refused,
    modules={LSTM: _modules},
    bench=_bench,
)
