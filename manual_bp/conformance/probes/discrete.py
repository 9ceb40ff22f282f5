"""Indices, masks and options: the inputs that have no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench
from manual_bp.conformance.probe import Case, case, probe

__all__ = ["indices", "masks", "options"]

_REDUCTIONS = ("none", "mean", "sum")


@probe("indices")
def indices(bench: Bench) -> Iterator[Case]:
    """Indices repeated, all equal, first and last, and equal to an option such as padding_idx.

    Assigning where gradients of repeated rows have to add up: tt-metal#6232, FlagGems#4295. The
    row of padding_idx gets no gradient: pytorch#26302. Where the reference counts negative indices
    from the end, or takes integers of another width, so must the backward: pytorch#93950,
    pytorch#188467.
    """
    hint = "Gradients of repeated indices add up (index_add, accumulate=True), except padding."
    for i in bench.call.tensors:
        index = bench.call.leaves[i]
        if index.dtype.is_floating_point or index.dtype.is_complex or index.dtype == torch.bool:
            continue
        if not index.numel() or bench.structured:
            continue
        name = bench.name(i)
        for label, values in _variants(bench, index).items():
            call = bench.call.with_leaf(i, values)
            yield case(f"{name} {label}", call, hint, may_refuse="in words")
        if i in bench.indices and not index.is_cuda:
            for label, values in _other_kinds(bench, index).items():
                call = bench.call.with_leaf(i, values)
                yield case(f"{name} {label}", call, hint, may_refuse="always")


def _variants(bench: Bench, index: Tensor) -> dict[str, Tensor]:
    low, high = int(index.min()), int(index.max())
    flat = index.reshape(-1)
    order = torch.randperm(len(flat), generator=bench.generator).to(index.device)
    drawn = bench.integers(max(low, 0), high + 1, index.shape).to(index) if high >= 0 else index
    repeated = flat[bench.integers(0, len(flat), (len(flat),)).to(index.device)]
    variants = {
        "all equal to its largest": torch.full_like(index, high),
        "all equal to its smallest": torch.full_like(index, low),
        "repeated": repeated.view(index.shape),
        "in another order": flat[order].view(index.shape),
        "drawn anew": torch.where(index < 0, index, drawn),
    }
    if index.is_cuda:  # an index out of range cannot be refused there: it ends the process
        return variants
    for size in _sizes(bench):
        if size > high:
            every = torch.arange(len(flat)) + int(bench.integers(0, size, ()))
            variants[f"up to {size - 1}"] = (every % size).to(index).view(index.shape)
    if low > 0:
        special = index.clone()
        special.view(-1)[0] = 0
        variants["with a zero"] = special
    for option in _whole_numbers(bench):
        special = index.clone()
        special.view(-1)[:: 2 if len(flat) > 1 else 1] = option
        variants[f"equal to {option} in places"] = special
    return variants


def _other_kinds(bench: Bench, index: Tensor) -> dict[str, Tensor]:
    """The same indices in another integer type, and counted from the end."""
    width = torch.int32 if index.dtype == torch.int64 else torch.int64
    kinds = {f"as {str(width).removeprefix('torch.')}": index.to(width)}
    every_other = torch.arange(index.numel(), device=index.device).view(index.shape) % 2 == 0
    for size in _sizes(bench):
        if size > int(index.max()) and int(index.min()) >= 0:
            counted = torch.where(every_other, index - size, index)
            kinds[f"counted from the end of {size} in places"] = counted
    return kinds


def _sizes(bench: Bench) -> list[int]:
    """Sizes of dimensions that an index may point into; the reference says which it does."""
    shapes = (bench.call.leaves[i].shape for i in bench.call.floating)
    return sorted({size for shape in shapes for size in shape})


def _whole_numbers(bench: Bench) -> list[int]:
    """Whole numbers among the arguments: an index may be special because it equals one."""
    return [
        leaf
        for leaf in bench.call.leaves
        if isinstance(leaf, int) and not isinstance(leaf, bool) and abs(leaf) < 10_000
    ]


@probe("masks")
def masks(bench: Bench) -> Iterator[Case]:
    """Masks that are all true, all false, flipped.

    A row without a single element divides by zero; masked places get what was in the buffer.
    """
    hint = "What is masked has a gradient of zero, also where everything is."
    for i in bench.call.tensors:
        mask = bench.call.leaves[i]
        if mask.dtype != torch.bool:
            continue
        for label, values in {
            "all true": torch.ones_like(mask),
            "all false": torch.zeros_like(mask),
            "flipped": ~mask,
        }.items():
            yield case(f"{bench.name(i)} {label}", bench.call.with_leaf(i, values), hint)


@probe("options")
def options(bench: Bench) -> Iterator[Case]:
    """Other values of numbers, flags and reductions, and optional tensors left out.

    A constant of the example is written into the backward: a slope, alpha = 1, a reduction.
    """
    hint = "An argument of the call is not the one that the backward uses."
    for i, leaf in enumerate(bench.call.leaves):
        if bench.structured and isinstance(leaf, int):
            continue
        for value in _other_values(leaf):
            label = f"{bench.name(i)} = {value!r}"
            call = bench.call.with_leaf(i, value)
            yield case(label, call, hint, may_refuse="always", finite=True)
    for i in bench.call.tensors[1:]:
        call = bench.call.with_leaf(i, None).with_needs(bench.call.needs - {i})
        yield case(f"{bench.name(i)} = None", call, hint, may_refuse="anywhere")


def _other_values(leaf: Any) -> list[Any]:
    if isinstance(leaf, bool):
        return [not leaf]
    if isinstance(leaf, int):
        return [leaf + 1, leaf - 1] if abs(leaf) < 10_000 else []
    if isinstance(leaf, float):
        return [value for value in (0.5 * leaf, 2 * leaf + 0.25, 0.0) if value != leaf]
    if isinstance(leaf, str) and leaf in _REDUCTIONS:
        return [reduction for reduction in _REDUCTIONS if reduction != leaf]
    return []
