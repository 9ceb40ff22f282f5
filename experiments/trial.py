"""A trial: one configuration of one fit, its folder, and its result on disk.

A trial's folder holds ``config.yaml`` (``python -m experiments fit --config .../config.yaml`` runs
the same training again), ``weights.npz`` and ``result.json``; while it is under way, its
checkpoint. The result is written last and in one step, so a folder either has a whole result or
none.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Array = np.ndarray[Any, np.dtype[Any]]

LIBRARIES = ("torch", "pytorch-lightning", "numpy", "scikit-learn")
LIGHTNING = "experiments.training.fit:train"
_TWIN = "autograd:"


@dataclass(frozen=True)
class Trial:
    """One configuration of one fit.

    Args:
        name: A readable name; the folder's name begins with it.
        labels: What the study needs to find the trial again (arm, seed, learning rate ...).
        config: A LightningCLI configuration of ``fit``.
        watch: The name of the run in TensorBoard; empty for a trial that logs nothing.
        runner: ``module:function`` that trains it: takes the path of the configuration, and that
            of a checkpoint to go on from and to save to; returns an :class:`Outcome`. A loop of a
            few seconds may leave the checkpoint alone: it then starts again when it was killed.
    """

    name: str
    labels: Mapping[str, Any]
    config: Mapping[str, Any]
    watch: str = ""
    runner: str = LIGHTNING

    @property
    def key(self) -> str:
        """A digest of all that decides the outcome."""
        text = json.dumps([self.config, bool(self.watch), self.runner], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def backprop(self) -> str:
        """Which gradients it trains with: "manual", "autograd" or "both" in step."""
        kind: str = self.config["model"]["init_args"]["backprop"]
        return kind

    def folder(self, home: Path) -> Path:
        """The trial's folder under the study's own."""
        return home / "trials" / f"{self.name}-{self.key}"

    def placed(self, home: Path) -> dict[str, Any]:
        """The configuration with the logger that belongs to this place."""
        logger: Any = False
        if self.watch:
            logger = {
                "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                "init_args": {
                    "save_dir": str(home / "tensorboard"),
                    "name": self.watch,
                    "version": "",
                    "default_hp_metric": False,
                },
            }
        return {**self.config, "trainer": {**self.config["trainer"], "logger": logger}}

    def place(self, home: Path) -> Path:
        """Write the configuration into the trial's folder, and return its path."""
        path = self.folder(home) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(yaml.safe_dump(self.placed(home), sort_keys=False), encoding="utf-8")
        return path

    def checkpoint(self, home: Path) -> Path:
        """Where the trial is saved while it is under way; other code never goes on from it."""
        return self.folder(home) / f"checkpoint-{code()}.ckpt"


@dataclass(frozen=True)
class Outcome:
    """What a training leaves.

    Args:
        metrics: Single numbers by name (``test/accuracy``).
        curves: Sequences by name (``train/loss`` is one number a step).
        all_by_hand: What the audit of the first step's loss says; None in an autograd trial.
        weights: The parameters at the end; by hand, where two were trained in step.
        warnings: What was warned of meanwhile.
        compared: Where two were trained in step, what
            :meth:`lightning_modules.comparison.Comparison.summary` gives.
        autograd_weights: And the parameters of the one by autograd at the end.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    all_by_hand: bool | None
    weights: Mapping[str, Array]
    warnings: Sequence[str] = ()
    compared: Mapping[str, Any] | None = None
    autograd_weights: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A finished trial, read from disk; see :class:`Outcome` for what it holds."""

    trial: Trial
    folder: Path
    metrics: Mapping[str, float]
    curves: Mapping[str, Array]
    all_by_hand: bool | None
    seconds: float
    current: bool
    warnings: Sequence[str] = field(default=())
    compared: Mapping[str, Any] | None = None

    def weights(self, backprop: str = "") -> dict[str, Array]:
        """The parameters at the end of the training, by name.

        Args:
            backprop: Where two were trained in step, "manual" or "autograd"; empty for the only
                one, or the one by hand.
        """
        twin = backprop == "autograd" and self.trial.backprop == "both"
        with np.load(self.folder / "weights.npz") as arrays:
            return {
                name.removeprefix(_TWIN): array
                for name, array in arrays.items()
                if name.startswith(_TWIN) == twin
            }


@cache
def versions() -> dict[str, str]:
    """The versions of the libraries that a result depends on."""
    return {name: version(name) for name in LIBRARIES}


@cache
def code() -> str:
    """A digest of the sources that a result depends on, and of the libraries' versions.

    A result that an older backward computed says nothing about today's, so a change to the layers,
    the Lightning modules or the training runs the trials again.
    """
    digest = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    homes = [_home("manual_bp"), _home("lightning_modules"), Path(__file__).parent / "training"]
    for path in sorted(path for home in homes for path in home.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _home(package: str) -> Path:
    spec = find_spec(package)  # finds a top-level package without importing it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {package} is not installed")
    return Path(spec.origin).parent


def write(folder: Path, trial: Trial, outcome: Outcome, seconds: float) -> None:
    """Keep a result: the weights first, then ``result.json`` in one step."""
    with replacing(folder / "weights.npz") as part, part.open("wb") as file:
        twin = {f"{_TWIN}{name}": array for name, array in outcome.autograd_weights.items()}
        np.savez(file, allow_pickle=False, **outcome.weights, **twin)
    record = {
        "trial": trial.name,
        "labels": dict(trial.labels),
        "key": trial.key,
        "code": code(),
        "versions": versions(),
        "seconds": round(seconds, 3),
        "all_by_hand": outcome.all_by_hand,
        "metrics": {name: plain(value) for name, value in outcome.metrics.items()},
        "curves": {name: plain(values) for name, values in outcome.curves.items()},
        "warnings": list(outcome.warnings),
        "compared": _finite(outcome.compared),
    }
    with replacing(folder / "result.json") as part:
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def read(trial: Trial, home: Path) -> Result | None:
    """The trial's result, or None when it has not finished."""
    folder = trial.folder(home)
    try:
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return Result(
            trial=trial,
            folder=folder,
            metrics={name: _number(x) for name, x in record["metrics"].items()},
            curves={
                name: np.array([_number(x) for x in xs]) for name, xs in record["curves"].items()
            },
            all_by_hand=record["all_by_hand"],
            seconds=record["seconds"],
            current=record["code"] == code() and (folder / "weights.npz").is_file(),
            warnings=record["warnings"],
            compared=record["compared"],
        )
    except (FileNotFoundError, KeyError, TypeError, json.JSONDecodeError):
        return None  # a damaged result is as good as none: the trial runs again


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, moved into place when the block ends well and removed when not."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def plain(value: float | Sequence[float]) -> Any:
    """Numbers as JSON has them, which knows no NaN and no infinity."""
    if isinstance(value, Sequence):
        return [plain(number) for number in value]
    return float(value) if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    """The same with each infinite error as the largest number, which JSON has."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return sys.float_info.max if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
