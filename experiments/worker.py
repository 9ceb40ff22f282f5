"""What runs where a trial is trained: in a process of its own, on this machine or another."""

import importlib
import shutil
import time
import warnings
from pathlib import Path

from experiments import trial as trials
from experiments.trial import Trial


def train(trial: Trial, place: Path) -> None:
    """Train one trial and keep its result.

    A trial that was killed goes on from its checkpoint; it is removed when the result is there.

    Args:
        trial: The trial.
        place: The study's folder.
    """
    checkpoint = trial.checkpoint(place)
    for other in checkpoint.parent.glob("checkpoint-*.ckpt"):
        if other != checkpoint:  # of other code
            other.unlink()
    if trial.watch and not checkpoint.exists():
        # What a killed run logged would be mixed with this one's.
        shutil.rmtree(place / "tensorboard" / trial.watch, ignore_errors=True)
    config = trial.place(place)
    module, _, function = trial.runner.partition(":")
    run = getattr(importlib.import_module(module), function)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True):
        outcome = run(config, checkpoint)
    trials.write(config.parent, trial, outcome, time.perf_counter() - start)
    checkpoint.unlink(missing_ok=True)
