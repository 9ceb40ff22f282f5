"""Where in a model an operation comes from: ``with located():`` around its forward pass."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

__all__ = ["Place", "located", "place_of"]

# The key under which a node of the backward graph keeps its place. It goes when the node goes.
_KEY = "manual_bp.place"


@dataclass(frozen=True, order=True)
class Place:
    """Where an operation was called.

    Attributes:
        module: Path of the innermost module, as ``named_modules()`` has it: ``layers.3.attention``;
            the class's name for the model itself, "" outside of any module.
        call: The torch callable: ``torch.nn.functional.linear``.
        source: File and line of the call, the innermost one outside of torch: ``model.py:31``.
    """

    module: str
    call: str
    source: str

    def __str__(self) -> str:
        """Give all three in one line."""
        return f"{self.module or '(no module)'}, {self.call} at {self.source}"


class located(TorchFunctionMode):
    """A context whose operations remember where in the model they were called.

    :func:`manual_bp.audit` then tells it of what is left to autograd. It goes inside of
    ``by_hand()``, or stands alone. A call costs some tens of microseconds in it, and nothing
    outside of it. What ``torch.compile`` runs is one node of the graph, without a place.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with located():
        ...     y = model(torch.randn(2, 3))
        >>> place_of(y.grad_fn).module
        '1'
    """

    def __init__(self) -> None:
        super().__init__()
        self._modules: list[str] = []
        self._names: dict[int, str] = {}  # of the outermost module's modules
        self._handles: list[Any] = []
        self._thread = 0

    def __enter__(self) -> located:
        """Follow the modules of this thread, too."""
        self._thread = threading.get_ident()
        self._handles += [
            hooks.register_module_forward_pre_hook(self._entered),
            hooks.register_module_forward_hook(self._left, always_call=True),
        ]
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Follow them no longer."""
        super().__exit__(kind, error, traceback)
        for _ in range(2):
            self._handles.pop().remove()

    def _entered(self, module: torch.nn.Module, _: Any) -> None:
        if threading.get_ident() != self._thread:
            return  # hooks see all threads
        if not self._modules:
            self._names = {id(m): name for name, m in module.named_modules()}
        self._modules.append(self._names.get(id(module)) or type(module).__name__)

    def _left(self, *_: Any) -> None:
        if threading.get_ident() == self._thread:
            self._modules.pop()

    def here(self, func: Callable[..., Any]) -> Place:
        """The place of a call of ``func`` that is being made."""
        return Place(self._modules[-1] if self._modules else "", _name(func), _source())

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Make the call, and write its place on the nodes that it added to the graph."""
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        before = {t.grad_fn for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        made = result if result is not None else args[:1]  # x[i] = y returns nothing
        nodes = {t.grad_fn for t in tree_leaves(made) if isinstance(t, Tensor)} - before
        if nodes - {None}:
            place = self.here(func)
            for node in _new(nodes, before):
                node.metadata[_KEY] = place
        return result


def _new(nodes: set[Any], before: set[Any]) -> Iterator[Any]:
    """What a call added to the graph: all from its outputs back to its inputs."""
    waiting, seen = list(nodes), {*before, None}
    while waiting:
        node = waiting.pop()
        if node in seen or hasattr(node, "variable") or _KEY in node.metadata:
            continue  # a parameter's own node stays with it and belongs to no call
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def place_of(node: Any) -> Place | None:
    """Where a node of the backward graph comes from; None where nobody took note."""
    return node.metadata.get(_KEY)


@cache
def _name(func: Callable[..., Any]) -> str:
    name = resolve_name(func) or getattr(func, "__qualname__", repr(func))
    return name.replace("_VariableFunctionsClass.", "torch.")


_OURS = tuple(str(Path(file).parent) + os.sep for file in (torch.__file__, __file__))


def _source() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"


@cache
def _short(file: str) -> str:
    """A file as one finds it: below the current folder, or below where packages are installed."""
    path, installed = Path(file), [Path(p) for p in sys.path if p.endswith("-packages")]
    for root in (*installed, Path.cwd()):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return file
