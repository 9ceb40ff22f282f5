"""Lists of tensors that one operation steps at once: how they are gathered, and how scaled."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = list[Tensor] | tuple[Tensor, ...]

# On the CPU a list that outgrows the cache is read from memory once per operation. Batches of this
# many elements were the fastest of those tried, from 100 tiny tensors to tensors of a million.
CPU_BATCH_ELEMENTS = 2**18

HALF = (torch.float16, torch.bfloat16)


def scale_(tensors: Tensors, factor: float) -> None:
    """Multiply a list of tensors, all of one dtype, by a number in place."""
    # For a list on the CPU torch rounds the number to the dtype first, which makes 0.999 a 1 in
    # bfloat16 and keeps an average from ever decaying. A tensor it takes as it is.
    rounded = tensors[0].is_cpu and tensors[0].dtype in HALF
    exact = torch.tensor(factor, dtype=torch.float64, device="cpu") if rounded else factor
    torch._foreach_mul_(tensors, exact)


@dataclass(slots=True)
class Batch:
    """Parameters, their gradients and what is remembered of each; how many numbers in all."""

    theta: list[Tensor] = field(default_factory=list)
    g: list[Tensor] = field(default_factory=list)
    past: list[dict[str, Any]] = field(default_factory=list)
    elements: int = 0


class Batches:
    """Lists on one device and in one dtype, on the CPU small enough for its cache."""

    def __init__(self) -> None:
        self.all: list[Batch] = []
        self._open: dict[tuple[torch.device, torch.dtype], Batch] = {}

    def add(self, p: Tensor, g: Tensor, past: dict[str, Any]) -> None:
        """Put a parameter into the batch that is open for its like, or into a new one."""
        key, n = (p.device, p.dtype), p.numel()
        batch = self._open.get(key)
        if batch is None or (p.is_cpu and batch.elements + n > CPU_BATCH_ELEMENTS):
            batch = self._open[key] = Batch()
            self.all.append(batch)
        batch.theta.append(p)
        batch.g.append(g)
        batch.past.append(past)
        batch.elements += n
