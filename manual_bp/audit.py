"""Who computes a gradient: :func:`audit` walks the backward graph and tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from manual_bp.located import Place, place_of
from manual_bp.wording import counted

__all__ = ["Audit", "audit"]

# Nothing is computed there: where a gradient ends its way, and where torch shows it, as it is, to
# the backward hooks of a module.
_NO_OPERATIONS = {
    "AccumulateGrad",
    "torch::autograd::AccumulateGrad",
    "BackwardHookFunctionBackward",
}


@dataclass(frozen=True)
class Audit:
    """The operations of a backward graph, counted.

    Attributes:
        by_hand: Operation to count, where the backward is a Python ``autograd.Function``.
        autograd: Operation to count, where it is autograd's own.
        places: Operation to the places in the model that it comes from, each with its count; for
            what was computed inside of :class:`manual_bp.located`.
    """

    by_hand: Counter[str]
    autograd: Counter[str]
    places: dict[str, Counter[Place]] = field(default_factory=dict)

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
            lines.append(f"{manual} of {counted(total, 'operation')} by hand")
            lines += self._where()
        return "\n".join(lines)

    def _where(self) -> Iterator[str]:
        """Lines that tell where what is left to autograd comes from."""
        left = [(name, self.places[name]) for name in sorted(self.autograd) if name in self.places]
        if self.autograd and not left:
            yield "(to see where in the model the rest is: `with located():` around the forward)"
        for name, places in left:
            yield f"{name}:"
            for place, count in sorted(places.items()):
                yield f"  {place}" + (f" ({count} times)" if count > 1 else "")


def audit(output: Tensor | Iterable[Tensor]) -> Audit:
    """Tell which operations behind ``output`` have their gradient by hand, and which do not.

    Args:
        output: A tensor that a forward pass made (a loss), or several.

    Returns:
        The counts; ``print`` shows them as a table. What was computed inside of
        :class:`manual_bp.located` also tells where in the model it was.

    Raises:
        TypeError: If ``output`` is not made of tensors.
    """
    if isinstance(output, Tensor) or not isinstance(output, Iterable):
        output = [output]
    outputs = list(output)
    for tensor in outputs:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"audit() takes a tensor or several, got {type(tensor).__name__}")
    by_hand: Counter[str] = Counter()
    autograd: Counter[str] = Counter()
    places: dict[str, Counter[Place]] = {}
    for node in nodes_behind(outputs):
        function = function_of(node)
        name = node.name() if function is None else function.__name__
        (autograd if function is None else by_hand)[name] += 1
        if (place := place_of(node)) is not None:
            places.setdefault(name, Counter())[place] += 1
    return Audit(by_hand, autograd, places)


def nodes_behind(outputs: Iterable[Tensor]) -> Iterator[Any]:
    """The operations of the backward graph of ``outputs``, each once."""
    seen: set[Any] = set()
    waiting = [tensor.grad_fn for tensor in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
        if node.name() not in _NO_OPERATIONS:
            yield node


def function_of(node: Any) -> type | None:
    """The Python ``autograd.Function`` that a node is of; None where it is autograd's own."""
    function = getattr(node, "_forward_cls", None)
    if function is None or function.__module__.startswith("torch."):
        return None
    return function
