"""A trial's checkpoint: what a killed training goes on from."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from experiments.trial import replacing


class Checkpoint(pl.callbacks.Checkpoint):
    """Save the training every few seconds, whole or not at all.

    It is saved after a batch; where that batch is followed by a validation, after the validation,
    because a training that is resumed between the two would leave the validation out.

    Three moments are let pass, since Lightning does not go on from them as if nothing had happened:

    - the end of the training: what is resumed there is skipped, and with it the audit and all that
      is measured in ``on_train_end``;
    - the end of an epoch where ``max_steps`` is given: the first batch of the next epoch would be
      taken for one more of the last, and the epoch after it begin too early;
    - between batches whose gradients are accumulated: the gradients so far are not saved.

    When a training is resumed, TensorBoard is told to forget what was logged after the checkpoint.

    Args:
        path: Where to save; a file there is replaced.
        every_seconds: From one save to the next; 0 saves whenever it can.
    """

    def __init__(self, path: Path, every_seconds: float) -> None:
        self.path = path
        self.every_seconds = every_seconds
        self._saved = time.monotonic()
        self._due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take what was logged after the checkpoint out of the charts."""
        if not trainer.global_step:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                writer = logger.experiment._get_file_writer()
                start = Event(session_log=SessionLog(status=SessionLog.START))
                writer.add_event(start, step=trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save, unless a validation comes first."""
        self._due = time.monotonic() - self._saved >= self.every_seconds
        if self._due and not _validates_next(trainer) and not trainer.is_last_batch:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what had to wait for the validation."""
        if self._due and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what had to wait for the end of the epoch."""
        if self._due:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if _lost_on(trainer):
            return
        with replacing(self.path) as part:
            trainer.save_checkpoint(part)
        self._saved, self._due = time.monotonic(), False


def _lost_on(trainer: pl.Trainer) -> bool:
    """Whether this is a moment from which Lightning would go on otherwise."""
    over = trainer.global_step >= trainer.estimated_stepping_batches
    if trainer.is_last_batch:
        return over or trainer.max_steps >= 0
    between = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches != 0
    return over or between


def _validates_next(trainer: pl.Trainer) -> bool:
    """Whether the batch that has just ended is followed by a validation within its epoch."""
    every = trainer.val_check_batch
    if not isinstance(every, int):  # infinite: at the end of the epoch
        return False
    loop = trainer.fit_loop
    over_epochs = trainer.check_val_every_n_epoch is None
    done = loop.total_batch_idx if over_epochs else loop.batch_idx
    return (done + 1) % every == 0
