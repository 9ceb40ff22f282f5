"""Settings of the whole process that a call must leave as it found them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Settings", "one_thread"]


@dataclass(frozen=True)
class _Setting:
    """How one setting is read, put back, and told of."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    tell: Callable[[Any], str]


def _switched(what: str) -> Callable[[Any], str]:
    return lambda on: f"leaves {what} switched {'on' if on else 'off'} for its caller"


def _set_deterministic(mode: tuple[bool, bool]) -> None:
    # Not torch.use_deterministic_algorithms, which imports the compiler to tell it.
    torch._C._set_deterministic_algorithms(mode[0], warn_only=mode[1])


_SETTINGS = (
    _Setting(torch.is_grad_enabled, torch.set_grad_enabled, _switched("gradients")),
    _Setting(
        torch.get_default_dtype,
        torch.set_default_dtype,
        lambda dtype: f"leaves {dtype} as the default dtype",
    ),
    _Setting(
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_deterministic,
        lambda mode: _switched("deterministic algorithms")(mode[0]),
    ),
    _Setting(
        torch.get_num_threads,
        torch.set_num_threads,
        lambda count: f"leaves PyTorch with {count} threads",
    ),
    _Setting(
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
        _switched("autocast"),
    ),
    _Setting(
        torch.is_anomaly_enabled,
        torch.autograd.set_detect_anomaly,
        _switched("anomaly detection"),
    ),
)


class Settings:
    """The settings as they are at one moment."""

    def __init__(self) -> None:
        self._values = [setting.read() for setting in _SETTINGS]

    def put_back(self) -> list[str]:
        """Undo what has changed since, and say what it was."""
        changes = []
        for setting, before in zip(_SETTINGS, self._values, strict=True):
            now = setting.read()
            if now != before:
                changes.append(setting.tell(now))
                setting.write(before)
        return changes


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: for small tensors, waiting for others takes most of the time."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
