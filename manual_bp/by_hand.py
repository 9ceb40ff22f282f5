"""Any PyTorch model on hand-written backprop: ``with by_hand():``.

Inside it every torch call that has a hand-written backward uses it, whoever makes the call: a
module of ``torch.nn``, a model of some library, a bare ``x + y``. Nothing in the model changes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from manual_bp.checkpointing import recompute_under
from manual_bp.layers import SPECS

__all__ = ["by_hand", "register"]

# What is put in place of a torch callable, and the name by which `only` knows it.
_REPLACED: dict[Callable[..., Any], tuple[str, Callable[..., Any]]] = {
    native: (spec.name, manual) for spec in SPECS for native, manual in spec.replaced.items()
}


class by_hand(TorchFunctionMode):
    """A context in which torch calls use the gradients that are written by hand.

    It sees the forward pass; ``loss.backward()`` may be called inside or outside. Calls for which
    no gradient is written here stay autograd's own, and :func:`manual_bp.audit` names them. Where
    gradients are switched off nothing is replaced. Contexts nest: what an inner one leaves to
    autograd, an outer one may still take.

    What ``torch.utils.checkpoint`` runs again during the backward pass it runs again by hand, if it
    was by hand before. (With ``use_reentrant=True`` the first run has no gradients at all, and what
    counts is the context of ``backward()``.)

    Args:
        only: Names of layers and operations, as ``python -m manual_bp list`` shows them; None for
            all. Switching them on one by one finds the gradient that is wrong.

    Raises:
        ValueError: For a name that is not known.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with by_hand():
        ...     y = model(torch.randn(2, 3))
        >>> y.grad_fn.name()
        'ReLUFunctionBackward'
    """

    def __init__(self, only: Iterable[str] | None = None) -> None:
        super().__init__()
        self.only = None if only is None else _known({only} if isinstance(only, str) else only)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the hand-written counterpart of ``func``, or ``func`` itself."""
        kwargs = kwargs or {}
        found = replacement(func, kwargs, self.only)
        if found is None:
            return func(*args, **kwargs)
        if kwargs:
            kwargs = {_FROM_NUMPY.get(key, key): value for key, value in kwargs.items()}
        return found[1](*args, **kwargs)


recompute_under(by_hand)


def replacement(
    func: Callable[..., Any], kwargs: Mapping[str, Any], only: frozenset[str] | None = None
) -> tuple[str, Callable[..., Any]] | None:
    """What :class:`by_hand` puts in place of a call, and the name by which ``only`` knows it.

    Args:
        func: The torch callable.
        kwargs: Its keyword arguments.
        only: As for ``by_hand``.

    Returns:
        None where the call is left as it is.
    """
    found = _REPLACED.get(func)
    if found is None or not torch.is_grad_enabled() or (only is not None and found[0] not in only):
        return None
    # A result written into `out` has no gradient: torch refuses one that should.
    return found if kwargs.get("out") is None else None


# NumPy's names of arguments, which torch's own functions take besides theirs.
_FROM_NUMPY = {"axis": "dim", "keepdims": "keepdim"}


def _known(names: Iterable[str]) -> frozenset[str]:
    known = sorted({name for name, _ in _REPLACED.values()})
    for name in (names := frozenset(names)):
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else "`python -m manual_bp list` shows all"
            raise ValueError(f"by_hand(only=...): no gradient by hand is called {name!r}; {hint}")
    return names


# What was registered for a torch callable, one after the other; first what was there without.
_REGISTERED: dict[Callable[..., Any], list[tuple[str, Callable[..., Any]] | None]] = {}


def _put_last_in_place(torch_callable: Callable[..., Any]) -> None:
    last = _REGISTERED[torch_callable][-1]
    if last is None:
        _REPLACED.pop(torch_callable, None)
    else:
        _REPLACED[torch_callable] = last


class register:
    """Put one's own gradient into :class:`by_hand`, instead of ours or autograd's.

    Args:
        torch_callable: What the model calls: ``torch.nn.functional.gelu``, ``torch.Tensor.add``.
        manual_callable: What is called instead, with the same arguments; most often a function
            around one's ``autograd.Function.apply``.
        name: For ``by_hand(only={name})``; the name of ``manual_callable`` by default.

    Raises:
        TypeError: If either is not callable.

    The registration lasts until ``remove()``, or to the end of a ``with register(...):``.
    """

    def __init__(
        self,
        torch_callable: Callable[..., Any],
        manual_callable: Callable[..., Any],
        name: str | None = None,
    ) -> None:
        for given in (torch_callable, manual_callable):
            if not callable(given):
                raise TypeError(f"register() takes two callables, got {given!r}")
        self._native = torch_callable
        name = name or str(getattr(manual_callable, "__name__", "registered"))
        self._entry = (name, manual_callable)
        chain = _REGISTERED.setdefault(torch_callable, [_REPLACED.get(torch_callable)])
        chain.append(self._entry)
        _put_last_in_place(torch_callable)

    def remove(self) -> None:
        """Put back what was there before; a second call does nothing.

        Of several registrations of one callable the last that is left counts, in whatever order
        they are removed.
        """
        chain = _REGISTERED[self._native]
        chain[:] = [entry for entry in chain if entry is not self._entry]
        _put_last_in_place(self._native)

    def __enter__(self) -> register:
        """Return the handle."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the registration."""
        self.remove()
