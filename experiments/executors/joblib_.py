"""Worker processes on this machine, by joblib's loky.

One thread each: a network of this size gains nothing from a second one.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from pathlib import Path

from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from experiments.executors import Killed
from experiments.trial import Trial
from experiments.worker import train

MOST_WORKERS = 8
"""More workers cost more in imports (five seconds and 400 MB each) than these studies give back."""


def run(
    trials: Sequence[Trial], place: Path, jobs: int | None
) -> Iterator[tuple[Trial, BaseException | None]]:
    """Run the trials; see :mod:`experiments.executors`."""
    pool = get_reusable_executor(
        max_workers=jobs or min(cpu_count(), MOST_WORKERS),
        timeout=60,
        initializer=_prepare,
        initargs=(os.getpid(),),
        env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    finished = False
    try:
        futures: dict[Future[None], Trial] = {}
        with _held_interrupts():  # workers start here, and inherit the mask
            for trial in trials:
                futures[pool.submit(train, trial, place)] = trial
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], Killed() if isinstance(error, TerminatedWorkerError) else error
        finished = True
    finally:
        if not finished:
            with _unheard():
                pool.shutdown(kill_workers=True)


def _prepare(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: it may be killed without a word."""
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _unheard() -> Iterator[None]:
    """What loky's own thread says while its workers are killed under it is no news to a user."""
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook


@contextmanager
def _held_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
