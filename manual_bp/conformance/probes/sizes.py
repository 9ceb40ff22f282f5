"""Other sizes, other ranks, broadcasting, nothing at all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.probe import Case, case, probe
from manual_bp.conformance.resize import Axis, resize, spread_indices

__all__ = ["empty", "large", "ranks", "sizes"]

# Not a multiple of any block, more than a byte holds, more than 768 (pytorch#28716).
LARGE = (300, 1030)
# More than sixteen bits hold; tried where an index tensor points into the dimension.
HUGE = 40_000
MAX_ELEMENTS = 2**16


def _refusal(bench: Bench, axis: Axis) -> str:
    """Other batch sizes are promised by every function, other numbers of features are not."""
    first = next(iter(bench.call.tensors), None)
    return "in words" if (first, 0) in axis.places else "always"


@probe("sizes")
def sizes(bench: Bench) -> Iterator[Case]:
    """Other sizes of every dimension, one of them one, all of them different.

    Equal sizes hide a wrong axis or a missing transpose; a size of one is squeezed away; the size
    of the example gets written into the code.
    """
    hint = "A size or an axis is taken for granted. Do two dimensions of the example agree?"
    for axis in bench.axes:
        for size in (axis.size + 1, 1, 2 * axis.size):
            if size > axis.size or (size < axis.size and not bench.structured):
                call = resize(bench, bench.call, axis, size)
                label = f"{axis.describe(bench.call)} = {size}"
                yield case(label, call, hint, may_refuse=_refusal(bench, axis), conditioned=True)
    yield from _all_different(bench, hint)
    for i in bench.call.needs:
        for dim, size in enumerate(bench.call.leaves[i].shape):
            if size > 1 and len(bench.call.tensors) > 1 and not bench.structured:
                call = resize(bench, bench.call, Axis(((i, dim),), size), 1)
                if not _broadcasts(bench, call, i):
                    continue
                hint = "Sum the gradient over the dimensions that were broadcast."
                label = f"{bench.name(i)} broadcast along dim {dim}"
                yield case(label, call, hint, may_refuse="always")


def _broadcasts(bench: Bench, call: Call, leaf: int) -> bool:
    """Whether the reference takes a size of one for as many equal elements as there were.

    Not every function that accepts such a call does: some read past the end of the memory.
    """
    shape = bench.call.leaves[leaf].shape
    try:
        narrow = bench.refer(call.with_needs(())).outputs
        wide = call.with_leaf(leaf, call.leaves[leaf].expand(shape).clone())
        full = bench.refer(wide.with_needs(())).outputs
    except LeftOut:
        return False
    return len(narrow) == len(full) and all(
        a.shape == b.shape and torch.allclose(a, b, equal_nan=True)
        for a, b in zip(narrow, full, strict=True)
    )


def _all_different(bench: Bench, hint: str) -> Iterator[Case]:
    call = bench.call
    changed = 0
    for axis, size in zip(bench.axes, (5, 7, 3, 11, 2, 13), strict=False):
        if bench.structured and size < axis.size:
            continue
        wider = resize(bench, call, axis, size)
        try:
            bench.refer(wider)
        except LeftOut:
            continue
        call, changed = wider, changed + 1
    if changed > 1:
        yield case("all sizes different", call, hint, may_refuse="always", conditioned=True)


@probe("empty")
def empty(bench: Bench) -> Iterator[Case]:
    """An empty batch, where the reference accepts one.

    The last batch of an epoch, an expert without tokens: max() of nothing raises, a loop over
    rows never ends, a launch with an empty grid fails.
    """
    hint = "An empty batch has gradients too: empty for it, zeros for the parameters."
    for axis in bench.axes:
        if _refusal(bench, axis) == "in words" and not bench.structured:
            call = resize(bench, bench.call, axis, 0)
            label = f"{axis.describe(bench.call)} = 0"
            yield case(label, call, hint, may_refuse="in words")


@probe("large")
def large(bench: Bench) -> Iterator[Case]:
    """Dimensions of several hundred, and indices that do not fit into a byte or two.

    Blocks of a kernel without a mask for the rest, an index kept in eight bits, a buffer of 768
    entries: pytorch#28716.
    """
    hint = "Right for a small example: look for a fixed block, buffer or integer type."
    for axis in bench.axes:
        for size in LARGE:
            if _elements(bench, axis, size) > MAX_ELEMENTS:
                continue
            call = resize(bench, bench.call, axis, size)
            label = f"{axis.describe(bench.call)} = {size}"
            refusal = _refusal(bench, axis)
            yield case(label, call, hint, may_refuse=refusal, conditioned=True)
        for size in (LARGE[0], HUGE):
            if _elements(bench, axis, size) > 4 * MAX_ELEMENTS:
                continue
            try:
                call = spread_indices(bench, resize(bench, bench.call, axis, size), size)
            except LeftOut:
                continue
            label = f"{axis.describe(bench.call)} = {size}, indices up to it"
            yield case(label, call, hint, may_refuse="always")


def _elements(bench: Bench, axis: Axis, size: int) -> float:
    """Elements of all tensors together at another size of an axis."""
    total = 0.0
    for i in bench.call.tensors:
        times = sum(leaf == i and dim is not None for leaf, dim in axis.places)
        total += bench.call.leaves[i].numel() * (size / axis.size) ** times
    return total


@probe("ranks")
def ranks(bench: Bench) -> Iterator[Case]:
    """One dimension more or less, in front or at the end, of one input or of all.

    Written for matrices, the backward transposes with t() or sums over the first dimension only:
    Liger-Kernel#1375. An input of lower rank is broadcast, and its gradient summed.
    """
    hint = "Written for one rank: use dims counted from the end, mT, and sums over all the rest."
    for group, chosen in _groups(bench).items():
        for label, call in _moves(bench, chosen):
            try:
                bench.refer(call)
            except LeftOut:
                continue
            yield case(f"{label} {group}", call, hint, may_refuse="always")


def _groups(bench: Bench) -> dict[str, tuple[int, ...]]:
    """The first input, what has its shape, what has a row for each of its rows.

    Not parameters by themselves: a weight of another rank is another function.
    """
    tensors = bench.call.tensors
    if not tensors or bench.structured:
        return {}
    shapes = {i: bench.call.leaves[i].shape for i in tensors}
    first = tensors[0]
    alike = tuple(i for i in tensors if shapes[i] == shapes[first])
    rows = tuple(i for i in tensors if shapes[i][:1] == shapes[first][:1])
    partners = [(i,) for i in alike if i in bench.call.needs]
    groups = [(first,), *partners, alike, rows]
    return {" and ".join(map(bench.name, group)): group for group in groups}


def _moves(bench: Bench, chosen: tuple[int, ...]) -> Iterator[tuple[str, Call]]:
    leaves = {i: bench.call.leaves[i] for i in chosen}
    yield (
        "another dimension in front of",
        bench.call.with_leaves({i: _stack(bench, x, 0) for i, x in leaves.items()}),
    )
    yield (
        "another dimension at the end of",
        bench.call.with_leaves({i: _stack(bench, x, x.dim()) for i, x in leaves.items()}),
    )
    if all(x.dim() and x.shape[0] for x in leaves.values()):
        yield (
            "the first row only of",
            bench.call.with_leaves({i: x[0].clone() for i, x in leaves.items()}),
        )
        yield (
            "a single number for",
            bench.call.with_leaves(
                {i: x.reshape(-1)[0].clone() for i, x in leaves.items() if x.numel()}
            ),
        )


def _stack(bench: Bench, x: Tensor, dim: int) -> Tensor:
    """Two versions of a tensor along a new dimension, the second one shuffled."""
    if x.dim() and x.shape[0] > 1:
        order = torch.randperm(x.shape[0], generator=bench.generator).to(x.device)
        other = x.index_select(0, order)
    else:
        other = x
    if is_differentiable(x):
        other = (x + other) / 2
    return torch.stack([x, other], dim)
