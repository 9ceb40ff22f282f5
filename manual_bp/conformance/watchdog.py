"""An end to code that hangs, without signals, so that it also works beside other timeouts."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TookTooLong", "limit"]


class TookTooLong(Exception):
    """Raised inside the code that ran over its time."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TookTooLong` in this thread when the body takes longer.

    The exception arrives between two bytecodes: a loop in Python ends, a single call into C that
    never returns does not.
    """
    thread = threading.get_ident()
    lock = threading.Lock()
    done = False

    def stop() -> None:
        with lock:
            if not done:
                error = ctypes.py_object(TookTooLong)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            done = True
        timer.cancel()
