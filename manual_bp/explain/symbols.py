"""The letters of a formula, found for the arguments of a call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from manual_bp.layers import SPECS
from manual_bp.spec import Spec

__all__ = ["Argument", "arguments", "name_of", "output_names", "spec_of"]

_SPECS: dict[str, Spec] = {spec.name: spec for spec in SPECS}

# What the formulas call torch's arguments; the first that a formula holds is taken.
_LETTERS: dict[str, tuple[str, ...]] = {
    "input": ("x", "i", "c"),
    "tensor": ("x",),
    "tensors": ("x",),
    "mat1": ("x",),
    "mat2": ("y",),
    "mat": ("x",),
    "vec": ("y",),
    "vec2": ("y",),
    "batch1": ("x",),
    "batch2": ("y",),
    "src": ("s",),
    "source": ("s",),
    "A": ("x",),
    "logits": ("x",),
    "log_probs": ("x",),
    "weight": ("W", "weight", "w"),
    "bias": ("b", "bias"),
    "other": ("y",),
    "exponent": ("p",),
    "target": ("t", "target"),
    "query": ("Q",),
    "key": ("K",),
    "value": ("V", "v"),
    "condition": ("c",),
    "mask": ("m", "mask"),
    "var": ("v",),
    "input1": ("x1",),
    "input2": ("x2",),
    "hx": ("h",),
    "w_ih": ("W",),
    "w_hh": ("U",),
    "b_ih": ("b",),
    "linear_weight": ("W",),
    "linear_bias": ("b",),
}
_RECURRENT = ("rnn_tanh", "rnn_relu", "gru", "lstm")

Argument = tuple[str, str, Tensor]  # letter, torch's name, tensor


def spec_of(name: str) -> Spec | None:
    """The spec of that name; None for what a user registered or autograd does itself."""
    return _SPECS.get(name)


def name_of(func: Callable[..., Any]) -> str:
    """What a torch callable is called: ``softmax``; a property's getter by the property."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", name)
    return name.strip("_")


def arguments(
    spec: Spec | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    called: Callable[..., Any] | None = None,
) -> tuple[list[Argument], dict[str, Any]]:
    """The tensors of a call with their letters, and its other arguments.

    Args:
        spec: Whose formula tells the letters; None for an operation without one.
        args: Of the call.
        kwargs: Of the call.
        called: Whose signature names the arguments; the spec's face where None.

    Returns:
        The tensors in the order of the arguments, those in lists one by one; and the settings
        that differ from their defaults.
    """
    tensors: list[Argument] = []
    settings: dict[str, Any] = {}
    called = spec.manual if called is None and spec is not None else called
    for name, value, default in _bound(called, args, kwargs):
        letter = _letter(name, spec)
        found = list(_tensors(value))
        if isinstance(value, Tensor):
            tensors.append((letter, name, value))
        elif found:
            of_args = name == "args" and spec is not None and spec.name in _RECURRENT
            letters = _recurrent_letters(len(found)) if of_args else None
            for i, tensor in enumerate(found):
                tensors.append((letters[i] if letters else f"{letter}_{i + 1}", name, tensor))
        elif not _same(value, default):
            settings[name] = value
    return tensors, settings


def output_names(spec: Spec | None, count: int) -> list[str]:
    """The letters of the outputs: what stands to the left of the formula's first ``=``."""
    if spec is not None and spec.name in _RECURRENT:
        return ["y", "h_T", "c_T"][:count] if count <= 3 else [f"y_{i + 1}" for i in range(count)]
    found = re.match(r"\s*([A-Za-z]+'?)[^=]*=", spec.formula) if spec is not None else None
    letter = found.group(1) if found else "y"
    letter = "y" if letter == "x" else letter  # "x = [y_1, y_2, ...]"
    return [letter] if count == 1 else [f"{letter}_{i + 1}" for i in range(count)]


def _bound(
    called: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of each argument."""
    if called is not None:
        try:
            signature = inspect.signature(called)
            bound = signature.bind(*args, **kwargs)
        except (TypeError, ValueError):  # a form that differs: __iadd__, NumPy's names
            pass
        else:
            for name, value in bound.arguments.items():
                parameter = signature.parameters[name]
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    yield from ((k, v, inspect.Parameter.empty) for k, v in value.items())
                else:
                    yield name, value, parameter.default
            return
    names = ("input", "other", "third")
    for i, value in enumerate(args):
        yield names[i] if i < len(names) else f"argument{i + 1}", value, inspect.Parameter.empty
    yield from ((k, v, inspect.Parameter.empty) for k, v in kwargs.items())


def _letter(argument: str, spec: Spec | None) -> str:
    if spec is None:
        return {"input": "x", "other": "w"}.get(argument, argument)
    written = set(re.findall(r"[A-Za-z]+\d?", spec.formula))
    for letter in (*_LETTERS.get(argument, ()), argument):
        if letter in written:
            return letter
    return "x" if argument == "input" else argument


def _recurrent_letters(count: int) -> list[str]:
    """Of ``input, hx, params``; the states of an LSTM are two. Parameters go by their own names."""
    return ["x", "h_0", "c_0", *(f"w_{i}" for i in range(count))]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _same(value: Any, default: Any) -> bool:
    try:
        if isinstance(value, tuple) and value and not isinstance(default, tuple):
            return all(_same(part, default) for part in value)  # a stride of (1, 1) is one of 1
        return bool(value is default or value == default)
    except (TypeError, ValueError, RuntimeError):
        return False
