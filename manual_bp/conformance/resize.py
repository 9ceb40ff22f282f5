"""Which dimensions of the inputs belong together, and calls with other sizes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.domain import Domain, simplex_dims

__all__ = ["Axis", "find_axes", "resize", "spread_indices"]

Place = tuple[int, int | None]


@dataclass(frozen=True)
class Axis:
    """Dimensions of inputs that have one size and change together.

    Attributes:
        places: Pairs of a leaf and its dimension; None for the dimension where the leaf is the
            size itself, as in ``normalized_shape=(8,)``.
        size: In the example call.
    """

    places: tuple[Place, ...]
    size: int

    def describe(self, call: Call) -> str:
        """As in ``x dim 0, target dim 0``."""
        return ", ".join(
            call.names[leaf] if dim is None else f"{call.names[leaf]} dim {dim}"
            for leaf, dim in self.places
        )


def find_axes(bench: Bench) -> list[Axis]:
    """Sets of dimensions that the reference lets change together, the smallest sets only."""
    call = bench.call
    if any(call.leaves[i].numel() == 0 for i in call.needs):
        return []  # with nothing to compute, the reference accepts what it otherwise would not
    by_size: dict[int, list[Place]] = defaultdict(list)
    for i in call.floating if bench.structured else call.tensors:
        for dim, size in enumerate(call.leaves[i].shape):
            by_size[size].append((i, dim))
    for i, leaf in enumerate(call.leaves):
        if isinstance(leaf, int) and not isinstance(leaf, bool) and leaf in by_size and leaf > 1:
            by_size[leaf].append((i, None))
    axes: list[Axis] = []
    for size, places in by_size.items():
        if size == 0:
            continue
        accepted: list[frozenset[Place]] = []
        for subset in _subsets(places):
            chosen = frozenset(subset)
            if any(smaller <= chosen for smaller in accepted):
                continue
            axis = Axis(subset, size)
            if _accepts(bench, axis):
                accepted.append(chosen)
                axes.append(axis)
    return axes


def _subsets(places: list[Place]) -> Iterator[tuple[Place, ...]]:
    counts = range(1, len(places) + 1) if len(places) <= 5 else (1, 2, len(places))
    for count in counts:
        for subset in combinations(places, count):
            if any(dim is not None for _, dim in subset):
                yield subset


def _accepts(bench: Bench, axis: Axis) -> bool:
    for size in (axis.size + 1, 2 * axis.size):
        try:
            bench.refer(resize(bench, bench.call, axis, size))
        except LeftOut:
            continue
        return True
    return False


def resize(bench: Bench, call: Call, axis: Axis, size: int) -> Call:
    """The call with another size of an axis; new entries are mixtures of the old ones."""
    leaves: dict[int, object] = {}
    for leaf, dim in axis.places:
        value = leaves.get(leaf, call.leaves[leaf])
        if dim is None:
            leaves[leaf] = size
        else:
            assert isinstance(value, Tensor)
            leaves[leaf] = _resize_tensor(bench, value, dim, size)
    return call.with_leaves(leaves)


def _resize_tensor(bench: Bench, x: Tensor, dim: int, size: int) -> Tensor:
    old = x.shape[dim]
    if size <= old or old == 0:
        smaller = x.narrow(dim, 0, min(size, old)).clone()
        return _on_simplex(x, smaller, dim)
    extra = size - old
    first = bench.integers(0, old, (extra,)).to(x.device)
    more = x.index_select(dim, first)
    if is_differentiable(x) and Domain.of(x) is not Domain.CATEGORICAL:
        # A mixture of two rows stays positive, in [0, 1] or a probability, as the example is.
        second = bench.integers(0, old, (extra,)).to(x.device)
        shape = [1] * x.dim()
        shape[dim] = extra
        share = torch.rand(extra, generator=bench.generator, dtype=torch.float64).view(shape)
        share = share.to(device=x.device, dtype=more.real.dtype if x.is_complex() else x.dtype)
        more = more * share + x.index_select(dim, second) * (1 - share)
    return _on_simplex(x, torch.cat([x, more], dim), dim)


def _on_simplex(example: Tensor, x: Tensor, dim: int) -> Tensor:
    """Probabilities over ``dim`` go on summing to one."""
    if x.shape[dim] and dim in simplex_dims(example):
        return x / x.sum(dim, keepdim=True)
    return x


def spread_indices(bench: Bench, call: Call, size: int) -> Call:
    """The call with its index tensors drawn from [0, size); negative entries stay."""
    leaves = {}
    for i in bench.indices:
        index = call.leaves[i]
        if index.numel():
            drawn = bench.integers(0, size, index.shape).to(index)
            drawn.view(-1)[0] = size - 1
            leaves[i] = torch.where(index < 0, index, drawn)
    if len(leaves) != 1:
        raise LeftOut("there is no index tensor, or more than one")
    return call.with_leaves(leaves)
