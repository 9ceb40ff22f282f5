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
    try:
        found: Any = getattr(nn, name)
    except AttributeError as error:
        if hasattr(torch.nn, name):  # a layer that this namespace is still without
            raise ValueError(str(error)) from error
        found = None
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    # Most slips are of case: ReLu, GeLU, Layernorm.
    layers = {
        known.lower(): known for known in dir(nn) if isinstance(getattr(nn, known, None), type)
    }
    close = difflib.get_close_matches(str(name).lower(), layers, n=1)
    hint = f"; did you mean {layers[close[0]]!r}?" if close else ""
    raise ValueError(f"{nn.__name__} has no layer {name!r}{hint}")
