"""Modules that are made of others: torch's own forward pass, run on gradients by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["under_by_hand"]


def under_by_hand(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a forward pass of torch's own, with its checks, on gradients by hand."""
    from manual_bp.by_hand import by_hand  # which gathers all layers, so not before they exist

    with by_hand():
        return forward(*args, **kwargs)
