"""Who computes a gradient: :func:`audit` walks the backward graph and tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Audit", "audit"]

# Where a gradient ends its way; nothing is computed there.
_LEAVES = {"AccumulateGrad", "torch::autograd::AccumulateGrad"}


@dataclass(frozen=True)
class Audit:
    """The operations of a backward graph, counted.

    Attributes:
        by_hand: Operation to count, where the backward is a Python ``autograd.Function``.
        autograd: Operation to count, where it is autograd's own.
    """

    by_hand: Counter[str]
    autograd: Counter[str]

    @property
    def all_by_hand(self) -> bool:
        """Whether there is a graph and autograd computes nothing of it."""
        return bool(self.by_hand) and not self.autograd

    def __str__(self) -> str:
        """Write a table, what autograd computes first."""
        rows = [(n, c, "autograd") for n, c in sorted(self.autograd.items())]
        rows += [(n, c, "by hand") for n, c in sorted(self.by_hand.items())]
        width = max((len(name) for name, *_ in rows), default=9)
        lines = [f"{'operation':<{width}}  count  backward"]
        lines += [f"{name:<{width}}  {count:>5}  {who}" for name, count, who in rows]
        total, manual = sum(c for _, c, _ in rows), self.by_hand.total()
        if not rows:
            lines.append("(no backward graph: nothing that requires a gradient was computed)")
        else:
            lines.append(f"{manual} of {total} operations by hand")
        return "\n".join(lines)


def audit(output: Tensor | Iterable[Tensor]) -> Audit:
    """Tell which operations behind ``output`` have their gradient by hand, and which do not.

    Args:
        output: A tensor that a forward pass made (a loss), or several.

    Returns:
        The counts; ``print`` shows them as a table.

    Raises:
        TypeError: If ``output`` is not made of tensors.
    """
    outputs = [output] if isinstance(output, Tensor) else list(output)
    for tensor in outputs:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"audit() takes a tensor or several, got {type(tensor).__name__}")
    by_hand: Counter[str] = Counter()
    autograd: Counter[str] = Counter()
    seen: set[Any] = set()
    waiting = [tensor.grad_fn for tensor in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
        if node.name() in _LEAVES:
            continue
        function = getattr(node, "_forward_cls", None)
        if function is not None and not function.__module__.startswith("torch."):
            by_hand[function.__name__] += 1
        else:
            autograd[node.name()] += 1
    return Audit(by_hand, autograd)
