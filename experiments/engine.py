"""Runs the trials of a study that are missing, and keeps every one that finishes.

Trials run in worker processes, one a core with one thread each: a network of this size gains
nothing from a second thread, and the results do not depend on how many workers there are. The
parent imports neither torch nor Lightning, so a run with nothing left to do ends at once. Each
result reaches the disk, whole, from its worker; a kill therefore loses only what was under way.
"""

import importlib
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import trial as trials
from experiments.refusal import Refusal
from experiments.study import Findings, Options, Study
from experiments.trial import Result, Trial

MOST_WORKERS = 8
"""More workers cost more in imports (five seconds and 400 MB each) than these studies give back."""


class Interrupted(Exception):
    """Ctrl-C; its text says what is kept."""


class TrialFailed(Exception):
    """A trial that raised; its text says which, why, and how to see it."""


def home(study: Study, options: Options) -> Path:
    """The folder of a study; the short form has its own, so that neither hides the other."""
    return options.logs / (f"{study.name}-fast" if options.fast else study.name)


def run(study: Study, options: Options, console: Console) -> tuple[Findings, int]:
    """Carry a study through.

    Returns:
        Its findings, and how many trials had to be run for them.

    Raises:
        TrialFailed: When a trial fails; those that finished are kept.
        Interrupted: On Ctrl-C.
    """
    place, ran, results = home(study, options), 0, None
    plan = study.plan(options)
    while True:
        try:
            batch = plan.send(results) if results is not None else next(plan)
        except StopIteration as end:
            return end.value, ran
        missing = [t for t in batch if (r := trials.read(t, place)) is None or not r.current]
        if missing:
            _finish(study, missing, len(batch), place, options, console)
            ran += len(missing)
        results = _read(batch, place)


def replay(study: Study, options: Options) -> tuple[Findings, bool]:
    """Draw the findings from the results on disk, without running anything.

    Returns:
        The findings, and whether all of the results come from today's code.

    Raises:
        Refusal: When a trial has not finished.
    """
    place, current, results = home(study, options), True, None
    plan = study.plan(options)
    while True:
        try:
            batch = plan.send(results) if results is not None else next(plan)
        except StopIteration as end:
            return end.value, current
        missing = [t for t in batch if trials.read(t, place) is None]
        if missing:
            raise Refusal(
                f"{len(missing)} of the {len(batch)} trials that the report needs next have not "
                f"finished under {place}; run them with: {options.command('run', study.name)}"
            )
        results = _read(batch, place)
        current = current and all(result.current for result in results)


def _read(batch: Sequence[Trial], place: Path) -> list[Result]:
    results = [trials.read(trial, place) for trial in batch]
    return [result for result in results if result is not None]


def _finish(
    study: Study,
    missing: Sequence[Trial],
    total: int,
    place: Path,
    options: Options,
    console: Console,
) -> None:
    """Run the missing trials side by side, each result kept as it comes."""
    done = total - len(missing)
    failures: list[tuple[Trial, BaseException]] = []
    with _progress(console) as progress, _workers(options) as pool:
        bar = progress.add_task(missing[0].labels.get("phase", study.name), total=total)
        progress.update(bar, completed=done)
        futures: dict[Future[None], Trial] = {}
        try:
            with _held_interrupts():  # workers start here, and inherit the mask
                for trial in missing:
                    futures[pool.submit(_train, trial, place)] = trial
            for future in as_completed(futures):
                error = future.exception()
                if error is not None:
                    failures.append((futures[future], error))
                else:
                    done += 1
                progress.update(bar, completed=done + len(failures))
        except KeyboardInterrupt:
            pool.shutdown(kill_workers=True)
            raise Interrupted(
                f"Stopped. {done} of these {total} trials are done and kept; to go on: "
                f"{options.command('run', study.name)}"
            ) from None
    if failures:
        raise TrialFailed(_explain(failures, total, place)) from failures[0][1]


def _explain(failures: Sequence[tuple[Trial, BaseException]], total: int, place: Path) -> str:
    trial, error = failures[0]
    if isinstance(error, TerminatedWorkerError):
        cause = "its worker process was killed (out of memory?)"
    else:
        cause = (str(error) or type(error).__name__).strip().splitlines()[0]
    return (
        f"{len(failures)} of {total} trials failed, the others are kept; the first, {trial.name}, "
        f"because: {cause} -- to see it fail: python -m experiments fit --config "
        f"{trial.folder(place) / 'config.yaml'}"
    )


def _train(trial: Trial, place: Path) -> None:
    """Train one trial and keep its result; runs in a worker."""
    if trial.watch:  # what a killed run logged would be mixed with this one's
        shutil.rmtree(place / "tensorboard" / trial.watch, ignore_errors=True)
    config = trial.place(place)
    module, _, function = trial.runner.partition(":")
    train = getattr(importlib.import_module(module), function)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True):
        outcome = train(config)
    trials.write(config.parent, trial, outcome, time.perf_counter() - start)


@contextmanager
def _workers(options: Options) -> Iterator[Any]:
    """Worker processes, one thread each."""
    cores = 1 if options.accelerator == "cuda" else cpu_count()
    yield get_reusable_executor(
        max_workers=min(cores, MOST_WORKERS),  # one without a trial imports next to nothing
        timeout=60,
        initializer=_prepare,
        initargs=(os.getpid(),),
        env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )


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


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("trials"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
