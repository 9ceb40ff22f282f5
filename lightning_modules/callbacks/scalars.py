"""Scalars on their way to the loggers."""

from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

STEPS = 50


class Scalars:
    """Keeps the scalars of a few dozen steps, and hands them to the loggers together.

    Handing over a step wakes TensorBoard's writing thread, which then competes with the training
    for the interpreter: that costs more than most of what is logged.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[list[Any], dict[str, float], int]] = []

    def add(self, loggers: list[Any], metrics: dict[str, float], step: int) -> None:
        """Take the scalars of a step; those of earlier steps are written when it is their time."""
        if self._kept and step >= self._kept[0][2] + STEPS:
            self.write()
        self._kept.append((loggers, metrics, step))

    def write(self) -> None:
        """Hand over what there is."""
        kept, self._kept = self._kept, []
        for loggers, metrics, step in kept:
            for logger in loggers:
                if isinstance(logger, TensorBoardLogger):
                    # One event for a step, a third of the time of one for each scalar.
                    values = [Summary.Value(tag=t, simple_value=x) for t, x in metrics.items()]
                    event = Event(summary=Summary(value=values))
                    logger.experiment._get_file_writer().add_event(event, step)
                else:
                    logger.log_metrics(metrics, step=step)
