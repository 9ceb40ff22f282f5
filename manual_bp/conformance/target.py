"""From what is written on the command line to what is called."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from manual_bp.wording import article

__all__ = ["Refused", "find", "inputs", "seed"]


class Refused(Exception):
    """Bad input, with one sentence that says how."""


def find(target: str) -> Callable[..., Any]:
    """The callable that ``path/to/file.py:Name`` or ``package.module:Name`` names.

    A ``torch.autograd.Function`` stands for its ``apply``, the class of a module without
    arguments for an instance.

    Raises:
        Refused: where there is no such thing, or it cannot be called.
    """
    place, colon, name = target.rpartition(":")
    if not colon and not target.endswith(".py"):
        place, _, name = target.rpartition(".")
    if not colon and target.endswith(".py"):
        raise Refused(f"which function of {target}? Write {target}:Name")
    if not place or not name:
        raise Refused(f"{target!r} is not of the form path/to/file.py:Name or package.module:Name")
    found: Any = _load(place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise Refused(f"there is no {part!r} in {place}{_suggestion(part, dir(found))}")
        found = getattr(found, part)
    if isinstance(found, type) and issubclass(found, torch.autograd.Function):
        return found.apply
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        try:
            return found()
        except TypeError as error:
            raise Refused(
                f"{name} needs arguments ({error}); name a function that makes it"
            ) from None
    if not callable(found):
        raise Refused(f"{target} is {article(type(found).__name__)}, which cannot be called")
    return found


def _suggestion(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, [n for n in names if not n.startswith("_")], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _load(place: str) -> ModuleType:
    path = Path(place)
    if place.endswith(".py"):
        if not path.is_file():
            raise Refused(f"there is no file {place}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # As `python path/to/file.py` does: neighbours can be imported, and pickled classes found.
        sys.path.insert(0, str(path.parent.resolve()))
        sys.modules.setdefault(path.stem, module)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise Refused(f"{place} cannot be run: {type(error).__name__}: {error}") from None
        return module
    try:
        return importlib.import_module(place)
    except ImportError as error:
        raise Refused(f"{place} cannot be imported: {error}") from None


def inputs(expressions: Sequence[str], device: torch.device) -> list[Any]:
    """The values of ``--input`` expressions, with torch's functions as names.

    Raises:
        Refused: where one has no value.
    """
    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("_")}
    values: list[Any] = []
    for expression in expressions:
        try:
            value = eval(f"({expression},)", {"torch": torch, **names})
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise Refused(f"--input {expression!r} has no value: {cause}") from None
        values += value
    return [v.to(device) if isinstance(v, Tensor) else v for v in values]


def seed(text: str) -> int:
    """What an option says of a seed, if torch's generators take it.

    Raises:
        argparse.ArgumentTypeError: If it is no whole number, or one of more than 64 bits.
    """
    try:
        if -(2**63) <= (number := int(text)) < 2**63:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at most 64 bits")
