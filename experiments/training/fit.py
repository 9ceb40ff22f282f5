"""One fit through LightningCLI: ``python -m experiments fit``, and what every trial runs."""

import json
import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.warnings import PossibleUserWarning

from experiments.catalog import unknown_option
from experiments.refusal import Refusal
from experiments.training.checkpoint import Checkpoint
from experiments.training.errors import cause
from experiments.training.recording import Record
from experiments.trial import Outcome, plain
from lightning_modules.data import InMemory

_THEIRS = r"(pytorch_lightning|lightning_utilities|lightning_fabric|jsonargparse)(\.|$)"


class FitCLI(LightningCLI):
    """LightningCLI with ``fit`` alone, which ends with the test set when there is one.

    Input that cannot work is refused in one sentence, before anything is trained.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only ``fit``; fewer parsers are also built faster."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words given, or those of the process."""
        fit = self._subcommand_parsers["fit"]
        fit.prog = "python -m experiments fit"  # as --help shows it
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            known = list(fit._option_string_actions)
            message = unknown_option(str(error), known)
            raise Refusal(f"fit: {cause(message)}") from error

    def instantiate_classes(self) -> None:
        """Build trainer, model and data."""
        try:
            super().instantiate_classes()
        except Exception as error:  # whatever a constructor says about its arguments
            raise Refusal(f"fit: {cause(str(error) or type(error).__name__)}") from error

    def before_fit(self) -> None:
        """Load data that are held in memory: a missing file or package shows here, not later."""
        if not isinstance(self.datamodule, InMemory):
            return
        try:
            self.datamodule.setup()
        except (ValueError, OSError, ModuleNotFoundError) as error:
            raise Refusal(f"fit: {cause(str(error))}") from error

    def after_fit(self) -> None:
        """Test what was trained."""
        if is_overridden("test_step", self.model) and self.datamodule is not None:
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)


class SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the logs; without a logger there is no such place."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save, unless that would drop a file into the working directory."""
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


def train(config: Path, checkpoint: Path | None = None, every_seconds: float = 10.0) -> Outcome:
    """Train as ``fit --config`` does, quietly.

    Args:
        config: A LightningCLI configuration whose callbacks include a :class:`Record`.
        checkpoint: Saved to now and then, and gone on from if it is there.
        every_seconds: From one save to the next.

    Returns:
        What the record kept, and the weights at the end.
    """
    words, saving = ["fit", "--config", str(config)], []
    if checkpoint is not None:
        saving.append(Checkpoint(checkpoint, every_seconds))
        words += ["--trainer.enable_checkpointing", "true"]
        if checkpoint.is_file():
            words += ["--ckpt_path", str(checkpoint), "--weights_only", "true"]
    with _quiet(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", PossibleUserWarning)  # advice on speed
        cli = _fit(words, save_config_callback=None, trainer_defaults={"callbacks": saving})
    said = sorted({str(warning.message).splitlines()[0] for warning in caught})
    return replace(_records(cli)[0].outcome(), warnings=said)


def main(words: Sequence[str]) -> int:
    """Run ``fit`` as the user asked for it, and print what it led to.

    A configuration that lies beside a trial's result is compared with it.
    """
    try:
        cli = _fit(list(words), save_config_callback=SaveConfig)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning has said so already
            return 130
        raise
    for name, value in sorted(cli.trainer.callback_metrics.items()):
        print(f"{name:<16} {float(value):.6g}")
    for file in cli.config.fit.config or []:
        stored = Path(str(file)).parent / "result.json"
        if stored.is_file() and _records(cli):
            print(_comparison(_records(cli)[0].outcome(), stored))
    return 0


def _fit(words: list[str], **options: Any) -> FitCLI:
    strict = {"exit_on_error": False, "allow_abbrev": False}
    with _own_seed(), warnings.catch_warnings():
        # Lightning's use of what torch and jsonargparse will drop is not the user's to mend.
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=_THEIRS)
        return FitCLI(
            args=words,
            parser_kwargs={**strict, "fit": strict},
            seed_everything_default=0,
            **options,
        )


@contextmanager
def _own_seed() -> Iterator[None]:
    """Keep Lightning's seed out of the environment, where the next fit would find it."""
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    before = {name: os.environ.pop(name, None) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes on devices and seeds are for one fit, not for a hundred."""
    loggers = [
        logging.getLogger(name)
        for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _records(cli: FitCLI) -> list[Record]:
    callbacks: list[pl.Callback] = getattr(cli.trainer, "callbacks", [])
    return [callback for callback in callbacks if isinstance(callback, Record)]


def _comparison(outcome: Outcome, stored: Path) -> str:
    """Say whether a fit gave what the trial gave whose configuration it used.

    What only one of the two has recorded (a plain loop keeps other curves) is left out.
    """
    expected = json.loads(stored.read_text(encoding="utf-8"))
    found: dict[str, float | Sequence[float]] = {**outcome.metrics, **outcome.curves}
    before = {**expected["metrics"], **expected["curves"]}
    # A clock does not show the same twice.
    shared = [name for name in found if name in before and not name.startswith("clock/")]
    same = [name for name in shared if plain(found[name]) == before[name]]
    with np.load(stored.with_name("weights.npz")) as weights:
        if all(np.array_equal(weights[name], tensor) for name, tensor in outcome.weights.items()):
            same.append("final weights")
    if len(same) == len(shared) + 1:
        return f"equals {stored} to the last bit: {', '.join(same)}"
    differing = [name for name in [*shared, "final weights"] if name not in same]
    return f"differs from {stored} in {', '.join(differing)}"


if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
