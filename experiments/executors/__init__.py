"""How trials run side by side; the results do not depend on it.

An executor is a function ``run(trials, place, jobs)`` that yields each trial as it ends, with the
exception that it ended with or None. Where the consumer stops early, the trials that are under way
are stopped too. A trial whose process was killed, by whomever, ends with :class:`Killed`.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from experiments.study import Executor
from experiments.trial import Trial


class Killed(Exception):
    """The process of a trial was killed; what it had saved is there."""


class Run(Protocol):
    """The form of an executor."""

    def __call__(
        self, trials: Sequence[Trial], place: Path, jobs: int | None
    ) -> Iterator[tuple[Trial, BaseException | None]]:
        """Run the trials, ``jobs`` at once or as many as there are cores."""


def load(name: Executor) -> Run:
    """The executor of that name.

    Raises:
        Refusal: When what it needs is not installed.
    """
    run: Run = import_module(f"experiments.executors.{name}_").run
    return run
