"""Other values of the kind that the example shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from manual_bp.conformance.call import Call, is_differentiable
from manual_bp.conformance.domain import Domain

if TYPE_CHECKING:
    from manual_bp.conformance.bench import Bench

__all__ = ["fresh"]


def fresh(bench: Bench, call: Call) -> Call:
    """The call with other values, of the kind that the example shows."""
    leaves = {}
    for i in call.tensors:
        x = call.leaves[i]
        if not x.numel() or (bench.structured and not is_differentiable(x)):
            continue
        if is_differentiable(x) and Domain.of(x) not in (Domain.CATEGORICAL, Domain.SIMPLEX):
            first, second = (x.reshape(-1)[_shuffled(bench, x.numel(), x)] for _ in range(2))
            leaves[i] = (0.7 * first + 0.3 * second).view(x.shape)
        elif x.dim():
            leaves[i] = x.index_select(0, _shuffled(bench, x.shape[0], x))
    return call.with_leaves(leaves)


def _shuffled(bench: Bench, count: int, like: Tensor) -> Tensor:
    return torch.randperm(count, generator=bench.generator).to(like.device)
