"""Modules as functions of their inputs, parameters and buffers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from manual_bp.conformance.call import is_differentiable

__all__ = ["as_functions"]

Function = Callable[..., Any]


def as_functions(
    manual: Function, autograd: Function, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Function, Function, tuple[Any, ...], dict[str, Any]]:
    """Turn two modules into functions that take the state of the reference as keyword arguments.

    So its parameters are differentiated and its buffers compared like any input. Two functions,
    and two modules whose states have different names or shapes, are returned as they are.

    Args:
        manual: The function or module under test.
        autograd: The reference.
        inputs: Positional arguments of the example call.
        kwargs: Its keyword arguments.
    """
    kwargs = dict(kwargs)
    if not (isinstance(manual, torch.nn.Module) and isinstance(autograd, torch.nn.Module)):
        return manual, autograd, inputs, kwargs
    state = _state(autograd)
    shapes = {name: tensor.shape for name, tensor in state.items()}
    if not state or {name: tensor.shape for name, tensor in _state(manual).items()} != shapes:
        return manual, autograd, inputs, kwargs
    if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
        inputs = tuple(x.detach().requires_grad_() if is_differentiable(x) else x for x in inputs)
    names = tuple(state)
    return _Stateless(manual, names), _Stateless(autograd, names), inputs, {**kwargs, **state}


def _state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


class _Stateless:
    """A module called with its parameters and buffers given by name."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        self._module, self._names = module, names
        self.__name__ = type(module).__name__
        self.__signature__ = inspect.signature(module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = {name: kwargs.pop(name) for name in self._names if name in kwargs}
        return functional_call(self._module, state, args, kwargs)
