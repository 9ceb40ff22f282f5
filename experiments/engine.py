"""Runs the trials of a study that are missing, and keeps every one that finishes.

An executor runs them side by side (:mod:`experiments.executors`); nothing that they compute
depends on which, nor on how many run at once. The parent imports neither torch nor Lightning, so a
run with nothing left to do ends at once. Each result reaches the disk, whole, from its worker, and
a training saves itself every few seconds: a kill loses seconds, and the run that follows ends in
the same table.
"""

import errno
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import executors
from experiments import trial as trials
from experiments.completed import completed
from experiments.executors import Killed
from experiments.refusal import Refusal
from experiments.study import Findings, Options, Study
from experiments.trial import Result, Trial

ATTEMPTS = 3
"""How often a trial is started whose process is killed; it goes on from its checkpoint."""


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
    check(study)
    place, ran, results = home(study, options), 0, None
    seen: list[Result] = []
    plan = study.plan(options)
    while True:
        try:
            batch = plan.send(results) if results is not None else next(plan)
        except StopIteration as end:
            if ran and study.watched:
                _side_by_side(seen, place)
            return completed(study, options, end.value, seen), ran
        missing = [t for t in batch if (r := trials.read(t, place)) is None or not r.current]
        if missing:
            _finish(study, missing, len(batch), place, options, console)
            ran += len(missing)
        results = _read(batch, place)
        seen += results


def replay(study: Study, options: Options) -> tuple[Findings, bool]:
    """Draw the findings from the results on disk, without running anything.

    Returns:
        The findings, and whether all of the results come from today's code.

    Raises:
        Refusal: When a trial has not finished.
    """
    place, current, results = home(study, options), True, None
    seen: list[Result] = []
    plan = study.plan(options)
    while True:
        try:
            batch = plan.send(results) if results is not None else next(plan)
        except StopIteration as end:
            return completed(study, options, end.value, seen), current
        missing = [t for t in batch if trials.read(t, place) is None]
        if missing:
            raise Refusal(
                f"{len(missing)} of the {len(batch)} trials that the report needs next have not "
                f"finished under {place}; run them with: {options.command('run', study.name)}"
            )
        results = _read(batch, place)
        seen += results
        current = current and all(result.current for result in results)


def _side_by_side(results: Sequence[Result], place: Path) -> None:
    from experiments import board  # imports TensorBoard, which only a run that trained needs

    board.write(results, place)


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
    run = executors.load(options.executor)
    done, rest = total - len(missing), list(missing)
    failures: list[tuple[Trial, BaseException]] = []
    with _progress(console) as progress:
        bar = progress.add_task(missing[0].labels.get("phase", study.name), total=total)
        progress.update(bar, completed=done)
        try:
            for attempt in range(ATTEMPTS):
                killed: list[tuple[Trial, BaseException]] = []
                for trial, error in run(rest, place, _jobs(options)):
                    if isinstance(error, Killed):
                        killed.append((trial, error))
                    elif error is not None:
                        failures.append((trial, error))
                        _give_up(error)
                    else:
                        done += 1
                    progress.update(bar, completed=done + len(failures))
                rest = [trial for trial, _ in killed]
                if not rest or attempt + 1 == ATTEMPTS:
                    failures += killed
                    break
        except KeyboardInterrupt:
            raise Interrupted(
                f"Stopped. {done} of these {total} trials are done and kept; to go on: "
                f"{options.command('run', study.name)}"
            ) from None
    if failures:
        raise TrialFailed(_explain(failures, total, place)) from failures[0][1]


def _jobs(options: Options) -> int | None:
    """How many at once; the device is one, and so is by default what trains on it."""
    return options.jobs or (1 if options.accelerator == "cuda" else None)


def _give_up(error: BaseException) -> None:
    """Raise what no other trial will fare better with."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise error
    if isinstance(error, ModuleNotFoundError):
        raise Refusal(str(error)) from error


def check(study: Study) -> None:
    """Refuse a study that needs what is not installed.

    Raises:
        Refusal: It names the package and the command that installs it.
    """
    for package, extra in study.needs.items():
        if importlib.util.find_spec(package) is None:
            raise Refusal(
                f"the study {study.name} needs {package}, which is not installed; "
                f"python -m pip install 'manual-bp[{extra}]'"
            )


def _explain(failures: Sequence[tuple[Trial, BaseException]], total: int, place: Path) -> str:
    trial, error = failures[0]
    if isinstance(error, Killed):
        cause = f"its process was killed {ATTEMPTS} times (out of memory?)"
    else:
        cause = (str(error) or type(error).__name__).strip().splitlines()[0]
    return (
        f"{len(failures)} of {total} trials failed, the others are kept; the first, {trial.name}, "
        f"because: {cause} -- to see it fail: python -m experiments fit --config "
        f"{trial.folder(place) / 'config.yaml'}"
    )


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
