"""Every torch call of a forward pass, differentiated by itself: by hand and by autograd.

Two forward passes are made. In the first, hooks note which gradient arrives at each call's output.
In the second, each call is made twice more, on copies of the arguments it has at that moment, once
by hand and once by autograd, and that very gradient is sent back through both. So an operation is
judged on its own, whatever is wrong behind it; what arrives at it is autograd's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from manual_bp.by_hand import by_hand, replacement
from manual_bp.located import Place, located
from manual_bp.precision import relative_error

__all__ = ["Arrivals", "CallResult", "Replay"]


@dataclass(frozen=True)
class CallResult:
    """One call, by hand beside autograd.

    Attributes:
        name: Of the layer or operation, as ``by_hand(only=...)`` knows it.
        manual: The callable by hand: ``manual_bp.layers.gelu.gelu``.
        place: Where in the model it is.
        shapes: Of the tensors it takes.
        gradient_error: Largest relative error of an argument's gradient.
        output_error: Largest relative error of an output.
        trouble: What was raised by hand, where autograd raised nothing.
    """

    name: str
    manual: str
    place: Place
    shapes: tuple[tuple[int, ...], ...]
    gradient_error: float
    output_error: float
    trouble: str = ""

    def differs(self, tolerance: float) -> bool:
        """Whether the gradient or the output is another than autograd's."""
        return not max(self.gradient_error, self.output_error) <= tolerance


class Arrivals(TorchFunctionMode):
    """Notes the gradient that arrives at the outputs of each call with a gradient by hand."""

    def __init__(self, only: frozenset[str] | None) -> None:
        super().__init__()
        self.only = only
        self.gradients: list[dict[int, Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Make the call, and put a hook on what it returns.

        On the node of the graph, not on the tensor: torch 2.13 crashes where a view with a hook
        is modified in place.
        """
        result = func(*args, **(kwargs or {}))
        if replacement(func, kwargs or {}, self.only) is not None:
            arrived: dict[int, Tensor] = {}
            self.gradients.append(arrived)
            for i, y in enumerate(_outputs(result, args)):
                if y.grad_fn is not None:
                    y.grad_fn.register_prehook(partial(_keep, arrived, i, y.output_nr))
        return result


def _keep(
    arrived: dict[int, Tensor], i: int, output_nr: int, gradients: tuple[Tensor | None, ...]
) -> None:
    if (gradient := gradients[output_nr]) is not None:
        arrived[i] = gradient.clone()


class Replay(TorchFunctionMode):
    """Makes each call with a gradient by hand twice more, and compares.

    Args:
        arrivals: What arrived at each call when the same forward pass was made before.
        only: As for ``by_hand``.
        where: Follows the modules.
    """

    def __init__(
        self, arrivals: list[dict[int, Tensor]], only: frozenset[str] | None, where: located
    ) -> None:
        super().__init__()
        self.arrivals = iter(arrivals)
        self.only = only
        self.where = where
        self.results: list[CallResult] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compare, then make the call itself."""
        kwargs = kwargs or {}
        found = replacement(func, kwargs, self.only)
        if found is not None and (arrived := next(self.arrivals, None)):
            self.results.append(self._compared(found, func, args, kwargs, arrived))
        return func(*args, **kwargs)

    def _compared(
        self,
        found: tuple[str, Callable[..., Any]],
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        arrived: dict[int, Tensor],
    ) -> CallResult:
        name, manual_callable = found
        path = ".".join(
            str(getattr(manual_callable, key, "?")) for key in ("__module__", "__qualname__")
        )
        place = self.where.here(func)
        shapes = tuple(tuple(t.shape) for t in _tensors((args, kwargs)))
        with torch.random.fork_rng():
            native = _run(func, args, kwargs, arrived, nullcontext())
        try:
            with torch.random.fork_rng():
                manual = _run(func, args, kwargs, arrived, by_hand(self.only))
        except Exception as error:  # a gradient by hand may do anything: that is what is asked
            trouble = f"{type(error).__name__}: {error}".splitlines()[0]
            return CallResult(name, path, place, shapes, float("inf"), float("inf"), trouble)
        scale = _largest([*native.gradients, *arrived.values()])
        return CallResult(
            name,
            path,
            place,
            shapes,
            _worst(manual.gradients, native.gradients, scale),
            _worst(manual.outputs, native.outputs, _largest(native.outputs)),
        )


@dataclass(frozen=True)
class _Run:
    outputs: list[Tensor]
    gradients: list[Tensor | None]


def _run(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    arrived: dict[int, Tensor],
    mode: Any,
) -> _Run:
    """Make the call on copies of its arguments, and send back what arrived."""
    leaves: dict[int, Tensor] = {}  # one tensor given twice is one argument
    copies: dict[int, Tensor] = {}

    def copied(a: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        if id(a) not in copies:
            leaf = a.detach().clone()
            if a.requires_grad:
                leaves[id(a)] = leaf.requires_grad_()
            copies[id(a)] = leaf.clone() if a.requires_grad else leaf  # it may be written into
        return copies[id(a)]

    args, kwargs = tree_map(copied, (args, kwargs))
    with mode:
        result = func(*args, **kwargs)
    outputs = _outputs(result, args)
    reached = [(outputs[i], g) for i, g in arrived.items() if i < len(outputs)]
    gradients = torch.autograd.grad(
        [y for y, _ in reached],
        list(leaves.values()),
        [g for _, g in reached],
        allow_unused=True,
    )
    return _Run([y.detach() for y in outputs], list(gradients))


def _tensors(tree: Any) -> list[Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, Tensor)]


def _outputs(result: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """What a call returned that has a gradient; ``x[i] = y`` returns nothing and changes x."""
    return [y for y in _tensors(args[:1] if result is None else result) if y.requires_grad]


def _largest(tensors: Iterable[Tensor | None]) -> float:
    return max((float(t.norm()) for t in tensors if t is not None), default=0.0)


def _worst(found: list[Any], expected: list[Any], scale: float) -> float:
    if len(found) != len(expected):
        return float("inf")
    errors = [relative_error(a, b, scale) for a, b in zip(found, expected, strict=True)]
    return max(errors, default=0.0)
