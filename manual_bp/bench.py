"""What a gradient by hand costs: time and memory over autograd's, in one run.

A single time means nothing on a machine that does other things too, so both sides take turns and
what counts is the median of the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

from manual_bp.spec import Draw, Sample, Spec

__all__ = ["Cost", "compare", "peak_memory", "time_spec"]

# Long enough that the clock and the loop do not count.
_BLOCK_SECONDS = 0.02


@dataclass(frozen=True)
class Cost:
    """Time and memory of one way beside the other.

    Attributes:
        name: What was measured.
        manual: Seconds by hand, median.
        native: Seconds by autograd, median.
        ratio: Median of the ratios of neighbouring blocks, by hand over autograd.
        manual_bytes: Most bytes alive at a time beyond the arguments, by hand.
        native_bytes: The same by autograd.
    """

    name: str
    manual: float
    native: float
    ratio: float
    manual_bytes: int
    native_bytes: int

    @property
    def memory_ratio(self) -> float:
        """Memory by hand over autograd's."""
        return self.manual_bytes / max(self.native_bytes, 1)


def compare(
    name: str, manual: Callable[[], Any], native: Callable[[], Any], rounds: int = 9
) -> Cost:
    """Time two callables in turns.

    Args:
        name: For the table.
        manual: One step by hand.
        native: The same by autograd.
        rounds: How many blocks of each; every block lasts about 20 ms or one call.

    Returns:
        Times, their ratio and the memory of each.
    """
    memory = [peak_memory(step) for step in (manual, native)]  # also warms both up
    threads = torch.get_num_threads()
    timers = [
        Timer("step()", globals={"step": step}, num_threads=threads) for step in (manual, native)
    ]
    once = max(timers[1].timeit(3).median, 1e-9)
    number = max(1, round(_BLOCK_SECONDS / once))
    blocks = [[timer.timeit(number).median for timer in timers] for _ in range(rounds)]
    return Cost(
        name,
        median(a for a, _ in blocks),
        median(b for _, b in blocks),
        median(a / b for a, b in blocks),
        *memory,
    )


def time_spec(spec: Spec, dtype: torch.dtype, device: str, rounds: int) -> list[Cost]:
    """Forward and backward of each of a spec's samples to time, the small one first."""
    return [
        compare(
            f"{spec.name} {_shapes(s)}",
            _step(partial(spec.manual, **s.kwargs), s, spec.modifies),
            _step(partial(spec.native, **s.kwargs), s, spec.modifies),
            rounds,
        )
        for s in spec.bench(Draw(dtype=dtype, device=device))
    ]


def _shapes(s: Sample) -> str:
    tensors = [a for a in s.args if isinstance(a, Tensor)]
    return s.label or " ".join("x".join(map(str, t.shape)) or "1" for t in tensors[:2])


def _step(f: Callable[..., Any], s: Sample, modifies: bool) -> Callable[[], Any]:
    """One forward and backward pass."""
    wanted = [a for a in tree_leaves(s.args) if isinstance(a, Tensor) and a.requires_grad]
    cotangent: list[Tensor] = []

    def step() -> Any:
        args = (s.args[0].clone(), *s.args[1:]) if modifies else s.args
        y = f(*args)
        y = y[0] if isinstance(y, tuple) else y
        if not cotangent:
            cotangent.append(torch.randn_like(y))
        # the first of several outputs need not depend on everything
        grads = torch.autograd.grad(y, wanted, cotangent[0], allow_unused=True)
        if y.is_cuda:
            torch.cuda.synchronize()
        return grads

    return step


class _Living(TorchDispatchMode):
    """Follows the storages that operations make, for as long as each lives."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        known = {
            StorageWeakRef(t.untyped_storage())
            for t in tree_leaves((args, kwargs))
            if isinstance(t, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        self.alive = {ref: size for ref, size in self.alive.items() if not ref.expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                ref = StorageWeakRef(storage)
                if ref not in known:  # a view or an operand modified in place is nothing new
                    self.alive[ref] = storage.nbytes()
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def peak_memory(step: Callable[[], Any]) -> int:
    """Most bytes of tensors made by ``step`` that are alive at a time.

    What a kernel takes for itself while it runs is not seen.
    """
    step()
    with _Living() as living:
        step()
    return living.peak
