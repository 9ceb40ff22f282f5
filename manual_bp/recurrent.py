"""What RNN, LSTM and GRU share: time steps, directions, layers, and the calls torch makes.

A sequence is worked on as rows, all examples of a time step after those of the step before. Then
one form serves both kinds of input: padded ones, where every step has N rows, and packed ones,
whose examples are sorted by length, so that step t has the first ``sizes[t]`` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.layers.dropout import dropout
from manual_bp.ops.expand import expand
from manual_bp.ops.permute import transpose
from manual_bp.ops.view import unsqueeze

__all__ = ["Steps", "directions", "refreshed", "through_layers", "total", "weight_gradients"]


@dataclass(frozen=True)
class Steps:
    """The time steps of a sequence, in the order in which one direction takes them.

    Attributes:
        sizes: Rows of each time step; None where every step has all examples.
        length: Number of time steps.
        backwards: Whether the direction starts at the end.
    """

    sizes: tuple[int, ...] | None
    length: int
    backwards: bool

    def __iter__(self) -> Iterator[int]:
        """The time steps, the first to be computed first."""
        return iter(range(self.length)[:: -1 if self.backwards else 1])

    def __reversed__(self) -> Iterator[int]:
        """The time steps, the last to be computed first: the order of the backward pass."""
        return iter(range(self.length)[:: 1 if self.backwards else -1])

    def split(self, sequence: Tensor) -> Sequence[Tensor]:
        """The rows of each time step, of (T, N, ...) or packed (rows, ...)."""
        return sequence.unbind(0) if self.sizes is None else sequence.split(self.sizes)

    def join(self, rows: list[Tensor]) -> Tensor:
        """The reverse of ``split``."""
        return torch.stack(rows) if self.sizes is None else torch.cat(rows)

    def states_before(self, start: Tensor, states: Tensor) -> Tensor:
        """The state that each step met: that of the step before it, and ``start`` (N, H)."""
        if self.sizes is None:
            first = start.unsqueeze(0)
            return torch.cat((states[1:], first) if self.backwards else (first, states[:-1]))
        after = self.split(states)
        before = list(after)
        for t in self:
            before[t] = start[: len(after[t])]
            start = refreshed(start, after[t])
        return self.join(before)


def refreshed(state: Tensor, rows: Tensor) -> Tensor:
    """``state`` (N, H) with its first rows replaced: a step leaves ended examples alone."""
    n = rows.shape[0]
    return rows if n == state.shape[0] else torch.cat((rows, state[n:]))


def directions(
    weights: Sequence[Tensor], count: int, sequence: Tensor, sizes: tuple[int, ...] | None
) -> Iterator[tuple[int, Sequence[Tensor], Steps]]:
    """Number, weights and steps of each of ``count`` directions; the second runs backwards."""
    each, length = len(weights) // count, sequence.shape[0] if sizes is None else len(sizes)
    for d in range(count):
        yield d, weights[d * each : (d + 1) * each], Steps(sizes, length, d == 1)


def over_all_steps(delta: Tensor, sequence: Tensor) -> Tensor:
    """``sum_t sum_n delta_tn sequence_tn^T``: one product, with a row for each t and n."""
    if delta.dim() == 3 and delta.shape[-1] * sequence.shape[-1] < 256:
        # So small a product is added up one by one, and its rounding errors with it; so, by step.
        return (delta.mT @ sequence).sum(0)
    return delta.flatten(0, -2).t() @ sequence.flatten(0, -2)


def weight_gradients(
    delta_x: Tensor,
    delta_h: Tensor,
    x: Tensor,
    before: Tensor,
    biases: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of one direction's W, U and biases, from those of W x_t + b and U h_(t-1) + b'."""
    grads = [
        over_all_steps(delta_x, x) if needs[0] else None,
        over_all_steps(delta_h, before) if needs[1] else None,
    ]
    for i, bias in enumerate(biases):
        delta = (delta_x, delta_h)[i]
        grads.append(delta.sum_to_size(bias.shape) if needs[2 + i] else None)
    return grads


def total(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of what each direction gives to the same ``x``; None where it is not needed."""
    first, *rest = parts
    for part in rest:
        first = first if first is None or part is None else first + part
    return first


def through_layers(layer: Callable[..., Any], *args: Any) -> tuple[Tensor, ...]:
    """Run a stack of layers, as ``torch.lstm`` and its like do.

    Args:
        layer: ``layer(x, states, sizes, *weights)``, giving ``y`` and the last states.
        args: As torch's: (input, hx, params, has_biases, num_layers, dropout, train,
            bidirectional, batch_first), or packed (data, batch_sizes, hx, params, ...).

    Returns:
        The last layer's ``y``, and the last states, those of all layers in one tensor.
    """
    packed = isinstance(args[3], (list, tuple))
    x, hx, params, has_biases, layers, p, train, bidirectional, *_ = (
        args[:1] + args[2:] if packed else args
    )
    sizes = tuple(args[1].tolist()) if packed else None
    batch_first = not packed and len(args) > 8 and args[8]
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    if not packed and x.shape[1 if batch_first else 0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    is_projected = len(states) > 1 and states[0].shape[-1] != states[1].shape[-1]
    each = (4 if has_biases else 2) + is_projected
    if len(params) % each:
        raise RuntimeError("got an incorrect number of RNN parameters")
    each *= 1 + bidirectional
    x = transpose(x, 0, 1) if batch_first else x
    if not packed:
        x, states = _broadcast(x, states)
    starts = [[s] if layers == 1 else PartsFunction.apply(s, layers) for s in states]
    ends = []
    for i in range(layers):
        x, *end = layer(x, [s[i] for s in starts], sizes, *params[i * each : (i + 1) * each])
        ends.append(end)
        if i < layers - 1 and train and p:
            x = dropout(x, p)
    x = transpose(x, 0, 1) if batch_first else x
    if layers == 1:
        return x, *ends[0]
    return x, *(JoinFunction.apply(*parts) for parts in zip(*ends, strict=True))


def _broadcast(x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Of one example beside several there are several copies."""
    x = x if x.dim() > 2 else unsqueeze(x, 1)
    axes = (t.shape[1:2] for t in (x, *states))
    shape = (-1, *torch.broadcast_shapes(*axes), -1)
    x, *states = (t if t.shape[1] == shape[1] else expand(t, shape) for t in (x, *states))
    return x, states


def under_by_hand(forward: Callable[..., Any], *args: Any) -> Any:
    """Run a forward pass of torch's own, with its checks, on gradients by hand."""
    from manual_bp.by_hand import by_hand  # which gathers all layers, so not before they exist

    with by_hand():
        return forward(*args)


class PartsFunction(Function):
    """``x``: (L D, N, H), the states of all layers, taken apart into ``layers`` of (D, N, H)."""

    @staticmethod
    def forward(x: Tensor, layers: int) -> tuple[Tensor, ...]:
        return tuple(part.clone() for part in x.chunk(layers))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return torch.cat(grads), None


class JoinFunction(Function):
    """The states of all layers in one tensor."""

    @staticmethod
    def forward(*parts: Tensor) -> Tensor:
        return torch.cat(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.counts = [len(part) for part in inputs]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y.split(ctx.counts)
