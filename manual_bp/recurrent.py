"""What RNN, LSTM and GRU share: time steps, directions, layers, and the calls torch makes.

A sequence is worked on as rows, all examples of a time step after those of the step before. Then
one form serves both kinds of input: padded ones, where every step has N rows, and packed ones,
whose examples are sorted by length, so that step t has the first ``sizes[t]`` of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manual_bp.function import CastFunction, under_autocast, widened
from manual_bp.layers.dropout import dropout
from manual_bp.ops.cat import cat
from manual_bp.ops.permute import transpose
from manual_bp.ops.split import chunk

__all__ = [
    "Steps",
    "cell_gradients",
    "checked",
    "directions",
    "over_all_steps",
    "promoted_under_autocast",
    "refreshed",
    "through_layers",
    "total",
    "weight_gradients",
]


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

    def join_each(self, rows: Mapping[int, tuple[Tensor, ...]]) -> list[Tensor]:
        """``join`` for several sequences at once, given by their time steps."""
        columns = zip(*(rows[t] for t in range(self.length)), strict=True)
        return [self.join(list(column)) for column in columns]

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
        if i == 1 and delta_h is delta_x and grads[2] is not None:
            grads.append(grads[2].clone() if needs[3] else None)
        else:
            grads.append(delta.sum_to_size(bias.shape) if needs[2 + i] else None)
    return grads


def cell_gradients(
    delta_x: Tensor, delta_h: Tensor, arguments: Sequence[Any], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of x, h, W, U, b and b' from those of W x + b and of U h + b'."""
    x, h, w, u = widened(*arguments[:4])
    grads = [
        delta_x @ w if needs[0] else None,
        delta_h @ u if needs[1] else None,
        delta_x.mT @ x if needs[2] else None,
        delta_h.mT @ h if needs[3] else None,
        delta_x.sum(-2) if needs[4] else None,
        delta_h.sum(-2) if needs[5] else None,
    ]
    return [None if g is None else g.to(t.dtype) for g, t in zip(grads, arguments, strict=True)]


def total(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of what each direction gives to the same ``x``; None where it is not needed."""
    first, *rest = parts
    for part in rest:
        first = first if first is None or part is None else first + part
    return first


class Call(NamedTuple):
    """A call of ``torch.lstm`` or its like, in either of the two forms that torch takes."""

    x: Tensor
    sizes: tuple[int, ...] | None
    states: list[Tensor]
    params: list[Tensor]
    has_biases: bool
    layers: int
    directions: int
    dropout: float
    batch_first: bool

    @classmethod
    def of(cls, *args: Any) -> Call:
        """Take apart (input, hx, params, ...), or packed (data, batch_sizes, hx, params, ...)."""
        packed = isinstance(args[3], (list, tuple))
        x, hx, params, has_biases, layers, p, train, bidirectional, *last = (
            (args[0], *args[2:]) if packed else args
        )
        sizes = tuple(args[1].tolist()) if packed else None
        states = [hx] if isinstance(hx, Tensor) else list(hx)
        batch_first = not packed and bool(last and last[0])
        p = p if train else 0.0
        return cls(
            x, sizes, states, list(params), has_biases, layers, 1 + bidirectional, p, batch_first
        )

    def check(self, gates: int) -> None:
        """Refuse shapes that do not fit. torch leaves that to the module and may crash on them."""
        x, sizes = self.x.transpose(0, 1) if self.batch_first else self.x, self.sizes
        if x.dim() != (3 if sizes is None else 2) or len(x) != (sum(sizes) if sizes else len(x)):
            raise RuntimeError(f"shape {tuple(x.shape)} is not that of a sequence of {sizes}")
        if sizes is None and len(x) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if sizes and list(sizes) != sorted(sizes, reverse=True):
            raise RuntimeError(f"batch_sizes of a packed sequence never grow, got {sizes}")
        out, cells, high = self.out, self.states[-1].shape[-1], gates * self.states[-1].shape[-1]
        stack, found = self.layers * self.directions, [tuple(w.shape) for w in self.params]
        if len(found) != self.each * stack:
            raise RuntimeError("got an incorrect number of RNN parameters")
        for state, last in zip(self.states, (out, cells), strict=False):
            wanted = (stack, sizes[0] if sizes else x.shape[1], last)
            if state.shape != wanted:
                raise RuntimeError(f"Expected hidden size {wanted}, got {tuple(state.shape)}")
        for i in range(stack):
            width = x.shape[-1] if i < self.directions else out * self.directions
            shapes = [(high, width), (high, out)] + 2 * self.has_biases * [(high,)]
            shapes += [(out, cells)] if out != cells else []
            if found[i * self.each : (i + 1) * self.each] != shapes:
                raise RuntimeError(f"Expected weights of {shapes}, got {found}")

    @property
    def out(self) -> int:
        """Features of the output of one direction."""
        return self.states[0].shape[-1]

    @property
    def each(self) -> int:
        """Weights of one direction of one layer."""
        return (4 if self.has_biases else 2) + (self.out != self.states[-1].shape[-1])


def checked(native: Callable[..., Any], gates: int) -> Callable[..., Any]:
    """Wrap torch's own to refuse the shapes on which it would read past the end of a tensor."""

    @functools.wraps(native)
    def run(*args: Any) -> Any:
        Call.of(*args).check(gates)
        return native(*args)

    return run


def through_layers(layer: Callable[..., Any], gates: int, *args: Any) -> tuple[Tensor, ...]:
    """Run a stack of layers, as ``torch.lstm`` and its like do.

    Args:
        layer: ``layer(x, states, sizes, *weights)``, giving ``y`` and the last states.
        gates: Blocks of rows in W and U.
        args: As torch's.

    Returns:
        The last layer's ``y``, and the last states, those of all layers in one tensor.
    """
    call = Call.of(*args)
    call.check(gates)
    x = transpose(call.x, 0, 1) if call.batch_first else call.x
    n, each = call.layers, call.each * call.directions
    starts = [[s] if n == 1 else chunk(s, n) for s in call.states]
    ends = []
    for i in range(n):
        weights = call.params[i * each : (i + 1) * each]
        x, *end = layer(x, [s[i] for s in starts], call.sizes, *weights)
        ends.append(end)
        if i < n - 1 and call.dropout:
            x = dropout(x, call.dropout)
    x = transpose(x, 0, 1) if call.batch_first else x
    if n == 1:
        return x, *ends[0]
    return x, *(cat(parts) for parts in zip(*ends, strict=True))


def promoted_under_autocast(face: Callable[..., Any]) -> Callable[..., Any]:
    """The place of GRU under autocast: low-precision products, added to a state of its dtype.

    torch casts there what goes into a product, not the states that are averaged. The results
    have the states' dtype, or the low precision where that is the wider one.
    """
    lowered = under_autocast("lower")(face)

    @functools.wraps(face)
    def run(*args: Any, **kwargs: Any) -> Any:
        results = lowered(*args, **kwargs)
        if not torch._C._is_any_autocast_enabled():
            return results
        hx = args[2] if isinstance(args[3], (list, tuple)) else args[1]
        state = hx if isinstance(hx, Tensor) else hx[0]

        def promoted(y: Tensor) -> Tensor:
            wide = torch.promote_types(y.dtype, state.dtype)
            return y if y.dtype == wide else CastFunction.apply(y, wide)

        return promoted(results) if isinstance(results, Tensor) else tuple(map(promoted, results))

    return run
