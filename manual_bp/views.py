"""What every view shares: it may be modified in place, like torch's own, whoever made it.

An operation that returns a part or another order of the same memory (``reshape``, ``permute``,
``select``, ``diagonal``) goes through :func:`view_of`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import CreationMeta, _get_creation_meta, _set_creation_meta

from manual_bp.function import Function, nothing_to_do

__all__ = ["open_to_changes", "view_of"]


def view_of(function: type[Function], x: Tensor, method: str, *arguments: Any) -> Tensor:
    """``x.method(*arguments)`` by ``function``, as :func:`open_to_changes`.

    Where ``x`` needs no gradient there is nothing to do by hand, and the view is torch's own.
    """
    if nothing_to_do(x):
        return getattr(x, method)(*arguments)
    return open_to_changes(function.apply(x, method, *arguments))


def open_to_changes(y: Tensor) -> Tensor:
    """Let a view that a Function returned be modified in place, as torch's own views can be.

    Autograd forbids it, as it would have to take another backward in place of the Function's:
    that of the copied slice. As views go, the two are the same linear map, so the ban is lifted
    here. A view that was modified then shows in the graph as autograd's own ``CopySlices`` and
    ``AsStridedBackward``, and its gradient is right.
    """
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return y
    # A base without history belongs to no graph: a change to it would lose its gradient unseen.
    if (
        y._is_view()
        and y._base is not None
        and y._base.grad_fn is not None
        and _get_creation_meta(y) == CreationMeta.IN_CUSTOM_FUNCTION
    ):
        _set_creation_meta(y, CreationMeta.DEFAULT)
    return y
