"""An end to code that hangs, without signals, so that it also works beside other timeouts."""

from __future__ import annotations

import _thread
import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TookTooLong", "Watchdog"]

_GLANCE = 0.25


class TookTooLong(Exception):
    """Raised inside the code that ran over its time."""


class Watchdog:
    """Looks on from a thread of its own, and raises in the one that made it.

    The exception arrives between two bytecodes: a loop in Python ends, a single call into C that
    never returns does not. It never arrives in the middle of an import, which would leave half a
    module behind: the first use of some of PyTorch's functions imports a great deal, and gets
    its time anew.

    Example:
        >>> with Watchdog() as watchdog, watchdog.limit(10):
        ...     _ = sum(range(1000))
    """

    def __init__(self) -> None:
        self._watched = threading.get_ident()
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._deadline = float("inf")
        self._closed = False

    def __enter__(self) -> Watchdog:
        # Not threading.Thread, whose start() waits for the thread: one is made for each check.
        _thread.start_new_thread(self._watch, ())
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raise :class:`TookTooLong` when the body takes longer."""
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._deadline = float("inf")

    def _watch(self) -> None:
        while not self._closed:
            time.sleep(_GLANCE)
            with self._lock:
                if time.monotonic() <= self._deadline:
                    continue
                if self._imports():
                    self._deadline = time.monotonic() + self._seconds
                else:
                    self._deadline = float("inf")
                    thread, error = ctypes.c_ulong(self._watched), ctypes.py_object(TookTooLong)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, error)

    def _imports(self) -> bool:
        frame = sys._current_frames().get(self._watched)
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
            frame = frame.f_back
        return False
