"""Workers of a Ray cluster, or of a Ray that is started on this machine for the run.

Which cluster is Ray's own affair: the environment variable ``RAY_ADDRESS`` names it. Its machines
must have this project installed and share the folder of the logs.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.executors import Killed
from experiments.refusal import Refusal
from experiments.trial import Trial
from experiments.worker import train

try:
    import ray
except ModuleNotFoundError:
    raise Refusal(
        "--executor is 'ray', which is not installed; python -m pip install 'manual-bp[sweep]', or "
        "leave the option out"
    ) from None


def run(
    trials: Sequence[Trial], place: Path, jobs: int | None
) -> Iterator[tuple[Trial, BaseException | None]]:
    """Run the trials; see :mod:`experiments.executors`."""
    _start(jobs)
    # A worker that dies is the engine's to replace, as it is with other executors.
    remote = ray.remote(num_cpus=1, max_retries=0)(train)
    try:
        waiting: dict[Any, Trial] = {remote.remote(t, place.resolve()): t for t in trials}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), _error(done)
    finally:
        ray.shutdown()


def _start(jobs: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leaves CUDA's as they are
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": jobs}
        quiet |= own
    ray.init(**quiet)


def _error(done: Any) -> BaseException | None:
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, BaseException) else error
    except ray.exceptions.RayError:  # the worker or its machine is gone
        return Killed()
    return None
