"""By hand means by hand: what a backward pass must not lean on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NotByHand", "only_by_hand"]

# Forward operations of their own right whose name happens to hold the word.
_FORWARD_IN_SPITE_OF_THEIR_NAME: frozenset[str] = frozenset()


class NotByHand(AssertionError):
    """A backward pass called a native backward kernel, or autograd."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.name()
        if "backward" in name and name not in _FORWARD_IN_SPITE_OF_THEIR_NAME:
            raise NotByHand(f"the backward calls the native kernel {name}")
        if torch.is_grad_enabled():
            raise NotByHand(f"the backward records a graph of its own, at {name}")
        return func(*args, **(kwargs or {}))


@contextmanager
def only_by_hand() -> Iterator[None]:
    """A context for a backward pass, ``create_graph=False``, that fails where it is not by hand.

    Raises:
        NotByHand: At the first native kernel with ``backward`` in its name, and at the first
            operation recorded for autograd (``enable_grad``, ``torch.func.vjp``, a nested
            ``torch.autograd.grad`` all have to record one).
    """
    with _Watch():
        yield
