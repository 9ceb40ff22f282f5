"""The namespace that a network takes its layers from."""

import difflib
from types import ModuleType
from typing import Any, TypeAlias

import torch

Namespace: TypeAlias = ModuleType
"""``torch.nn``, ``manual_bp.nn`` or any module that offers layers under the same names."""


def layer(nn: Namespace, name: str) -> type[torch.nn.Module]:
    """Look up a layer by its name, for arguments such as ``activation="ReLU"``.

    Args:
        nn: The namespace.
        name: The layer's name in ``torch.nn``.

    Raises:
        ValueError: The namespace has no layer of that name; the message suggests a close one.
    """
    found: Any = getattr(nn, name, None) if isinstance(name, str) else None
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    close = difflib.get_close_matches(str(name), dir(nn), n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{nn.__name__} has no layer {name!r}{hint}")
