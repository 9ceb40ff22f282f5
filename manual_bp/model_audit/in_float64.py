"""Models that compute in float32 on purpose, taken to float64 all the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["InFloat64"]


class InFloat64(TorchFunctionMode):
    """A context in which whoever asks for float32 gets float64.

    Many models turn to float32 for a softmax, a norm or the loss, whatever dtype they are in. In
    float64 that is a detour through seven digits, and no gradient behind it can be compared to
    sixteen. It goes inside of ``by_hand()``.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call ``func`` with float64 wherever an argument says float32."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(_wide, args), **{key: _wide(a) for key, a in (kwargs or {}).items()})


def _wide(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
