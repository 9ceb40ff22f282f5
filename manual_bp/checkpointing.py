"""What ``torch.utils.checkpoint`` computes a second time is by hand if the first time was.

Checkpointing throws away what a part of the forward pass saved, and runs it again when the backward
pass needs it. What each operation saves is then taken from the second run, in the order of the
first. If one of the two is by hand and the other is not, the tensors that turn up are other ones,
and often of the same shape: a gradient that is wrong, and nobody the wiser. So the second run is
made under the very ``by_hand()`` contexts of the first, wherever ``backward()`` is called.

Torch has no place to say so but the argument ``context_fn`` of each call, which those who call
``checkpoint`` inside of a library cannot reach. Hence the one function of torch that is wrapped
here. Whoever does pass a ``context_fn`` is in charge of the contexts, and nothing is added.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils import checkpoint

__all__ = ["recompute_under"]


def recompute_under(kind: type[TorchFunctionMode]) -> None:
    """Have checkpointed functions run again under the contexts of a kind that they ran under."""
    begin = checkpoint._checkpoint_without_reentrant_generator

    @functools.wraps(begin)
    def begin_with_contexts(
        function: Callable[..., Any], preserve: bool, context_fn: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # `function` is for the second run alone; checkpoint() itself makes the first.
        if context_fn is checkpoint.noop_context_fn:
            function = _as_now(function, kind)
        return begin(function, preserve, context_fn, *args, **kwargs)

    checkpoint._checkpoint_without_reentrant_generator = begin_with_contexts  # type: ignore[assignment]


def _as_now(function: Callable[..., Any], kind: type[TorchFunctionMode]) -> Callable[..., Any]:
    contexts = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, kind)]

    def again(*args: Any, **kwargs: Any) -> Any:
        with _exactly(contexts, kind):
            return function(*args, **kwargs)

    return again


@contextmanager
def _exactly(contexts: list[Any], kind: type[TorchFunctionMode]) -> Iterator[None]:
    """Hold these contexts of a kind, and none that came since; others stay as they are."""
    found = _get_current_function_mode_stack()  # the innermost last
    kept = [mode for mode in found if not isinstance(mode, kind) or mode in contexts]
    wanted = [mode for mode in contexts if mode not in found] + kept
    _replace(wanted)
    try:
        yield
    finally:
        _replace(found)


def _replace(stack: list[Any]) -> None:
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for mode in stack:
        _push_mode(mode)
