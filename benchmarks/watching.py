"""What watching costs a training: every gradient's histogram each 50 steps, all norms each step.

Run it with ``python -m benchmarks.watching``. One training of a network goes on while watchers take
turns of fifty steps: nobody, this project's callbacks, nobody, the naive way (a call of
``add_histogram`` and of ``add_scalar`` for each parameter), and round again. A turn is compared
with the mean of the two turns before and after it in which nobody watched, so that whatever else
the machine does falls on all of them alike. It holds one round of histograms and fifty of norms,
and ends when what was logged is on the disk.

A step is Lightning's whole step; what Lightning takes to call one callback more is part of the
cost. The processor's time counts all threads, also the one in which TensorBoard writes.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from scipy.stats import quantile_test
from torch import Tensor

from lightning_modules import Classifier
from lightning_modules.callbacks import GradientHistograms, GradientNorms
from lightning_modules.networks import MLP

TURN = 50
FEWEST = 6  # turns whose median has a 95 % interval
BATCH = 256
NETWORKS = {  # sizes of the input and of the hidden layers
    "1M": (784, (536, 536, 536)),
    "25M": (1024, (3288, 3288, 3288)),
}


class Turn(NamedTuple):
    """Seconds of fifty steps: by the wall, and of the processor, which others lengthen less."""

    wall: float
    cpu: float


class Naive(pl.Callback):
    """Watches as most code that one finds does."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        writer, step = pl_module.logger.experiment, trainer.global_step  # type: ignore[union-attr]
        for name, parameter in pl_module.named_parameters():
            writer.add_scalar(f"naive_norm/{name}", parameter.grad.norm(), step)  # type: ignore[union-attr]
            if step % TURN == 0:
                writer.add_histogram(f"naive/{name}", parameter.grad, step)


class Turns(pl.Callback):
    """Hands the trainer one watcher after the other, and measures their turns.

    Args:
        watchers: The callbacks of each; a turn of nobody comes before each of theirs.

    Attributes:
        taken: What each turn took, in order: one to warm up, nobody, the first watcher, nobody, the
            second watcher, ...
    """

    def __init__(self, watchers: list[list[pl.Callback]]) -> None:
        self.watchers = watchers
        self.taken: list[Turn] = []
        self._watching: list[pl.Callback] = []
        self._since = Turn(0.0, 0.0)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let them find out what they need to know of the fit."""
        for callbacks in self.watchers:
            for callback in callbacks:
                callback.on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the first turn."""
        self._since = Turn(time.perf_counter(), time.process_time())

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """End a turn, and begin the next one."""
        if trainer.global_step % TURN:
            return
        for callback in self._watching:
            callback.on_save_checkpoint(trainer, pl_module, {})  # writes what it still keeps
        pl_module.logger.experiment.flush()  # type: ignore[union-attr]
        now = Turn(time.perf_counter(), time.process_time())
        self.taken.append(Turn(now.wall - self._since.wall, now.cpu - self._since.cpu))
        index, watched = divmod(len(self.taken) - 1, 2)
        # The very first turn only warms up: another one of nobody follows it.
        self._watching = self.watchers[index % len(self.watchers)] if watched else []
        trainer.callbacks = [*self._watching, self]  # type: ignore[attr-defined]
        self._since = Turn(time.perf_counter(), time.process_time())


class Data:
    """The same random batch, as often as it takes."""

    def __init__(self, features: int, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = (
            torch.randn(BATCH, features, generator=generator),
            torch.randint(10, (BATCH,), generator=generator),
        )
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)


def measure(
    features: int, hidden: tuple[int, ...], rounds: int, watchers: list[list[pl.Callback]]
) -> list[Turn]:
    """Train; return the turns: nobody, first watcher, ..., and one of nobody more at the end."""
    turns = Turns(watchers)
    network = partial(MLP, in_features=features, hidden=hidden)
    optimizer = partial(torch.optim.SGD, lr=1e-4, momentum=0.9)
    count = 1 + 2 * len(watchers) * rounds + 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=TensorBoardLogger(folder),
            callbacks=[turns],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
            log_every_n_steps=10**9,
        )
        data: Any = Data(features, TURN * count)
        trainer.fit(Classifier(network, optimizer, backprop="autograd"), data)
    return turns.taken[1:]


def costs(turns: list[Turn], watcher: int, watchers: int) -> list[Turn]:
    """What each turn of a watcher took over the turns of nobody beside it, less one."""
    found = []
    for at in range(2 * watcher + 1, len(turns) - 1, 2 * watchers):
        before, own, after = turns[at - 1 : at + 2]
        found.append(
            Turn(
                2 * own.wall / (before.wall + after.wall) - 1,
                2 * own.cpu / (before.cpu + after.cpu) - 1,
            )
        )
    return found


def median(values: Sequence[float]) -> str:
    """The median, and between what it lies with a confidence of 95 %, whatever the distribution."""
    low, high = quantile_test(values).confidence_interval(0.95)
    return f"{statistics.median(values):.1%} ({low:.1%} to {high:.1%})"


def milliseconds(turns: list[Turn], wall_cost: str, cpu_cost: str) -> str:
    """The columns of a line: what a step took by each clock, and what it cost."""
    wall, cpu = (statistics.median(times) / TURN * 1e3 for times in zip(*turns, strict=True))
    return f"{wall:>9.2f}{wall_cost:>26}{cpu:>9.2f}{cpu_cost:>26}"


def main() -> None:
    """Print a line for each network and watcher."""
    parser = argparse.ArgumentParser(description="What watching costs a training.")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9, help="turns that each watcher gets")
    parser.add_argument("--threads", type=int, default=1, help="threads that torch computes with")
    arguments = parser.parse_args()
    if arguments.rounds < FEWEST:
        parser.error(f"--rounds must be {FEWEST} or more for an interval, got {arguments.rounds}")
    torch.set_num_threads(arguments.threads)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    counted = (
        f"{BATCH} rows, {arguments.threads} thread(s), {arguments.rounds} turns of {TURN} steps"
    )
    print(f"float32, {counted}; cost of a step: median, and its 95 % interval\n")
    print(f"{'network':<9}{'watched by':<13}{'step, ms':>9}{'wall':>26}{'CPU, ms':>9}{'CPU':>26}")
    for name in arguments.networks:
        watchers: dict[str, list[pl.Callback]] = {
            "callbacks": [GradientHistograms(TURN), GradientNorms()],
            "naive way": [Naive()],
        }
        turns = measure(*NETWORKS[name], arguments.rounds, list(watchers.values()))
        print(f"{name:<9}{'nobody':<13}{milliseconds(turns[::2], '', '')}")
        for index, watcher in enumerate(watchers):
            own = turns[2 * index + 1 :: 2 * len(watchers)]
            wall, cpu = zip(*costs(turns, index, len(watchers)), strict=True)
            line = milliseconds(own, median(wall), median(cpu))
            print(f"{name:<9}{watcher:<13}{line}", flush=True)


if __name__ == "__main__":
    main()
