"""What watching costs a training: every gradient's histogram each 50 steps, all norms each step.

Run it with ``python -m benchmarks.watching``. One training of a network goes on while watchers take
turns: nobody watches for fifty steps, then this project's callbacks, then the naive way (a call of
``add_histogram`` and of ``add_scalar`` for each parameter), and round again, so that whatever else
the machine does falls on all of them alike. A turn holds one round of histograms and fifty of norms
and ends with what was logged on the disk.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lightning_modules import Classifier
from lightning_modules.callbacks import GradientHistograms, GradientNorms
from lightning_modules.networks import MLP

TURN = 50

NETWORKS = {
    "MLP 784-512-512-512-10, 0.9M": (784, (512, 512, 512), 128),
    "MLP 1024-3072-3072-3072-10, 22M": (1024, (3072, 3072, 3072), 128),
}


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
    """Lets the watchers take turns, and measures each."""

    def __init__(self, watchers: dict[str, list[pl.Callback]]) -> None:
        self.watchers = watchers
        self.seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in watchers}
        self._since = (0.0, 0.0)

    def _watching(self, trainer: pl.Trainer, step: int) -> tuple[str, list[pl.Callback]]:
        return list(self.watchers.items())[step // TURN % len(self.watchers)]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for callbacks in self.watchers.values():
            for callback in callbacks:
                callback.on_fit_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % TURN == 0:
            self._since = time.perf_counter(), time.process_time()
        for callback in self._watching(trainer, trainer.global_step)[1]:
            callback.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        for callback in self._watching(trainer, trainer.global_step)[1]:
            callback.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        name, callbacks = self._watching(trainer, trainer.global_step - 1)
        for callback in callbacks:
            callback.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step % TURN == 0:
            pl_module.logger.experiment.flush()  # type: ignore[union-attr]
            wall, cpu = self._since
            self.seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))


class Data:
    """The same random batch, as often as it takes."""

    def __init__(self, features: int, batch: int, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch = (
            torch.randn(batch, features, generator=generator),
            torch.randint(10, (batch,), generator=generator),
        )
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)


def measure(
    features: int,
    hidden: tuple[int, ...],
    batch: int,
    rounds: int,
    watchers: dict[str, list[pl.Callback]],
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each turn, by the clock and of the processor; the first round warms up."""
    turns = Turns(watchers)
    network = partial(MLP, in_features=features, hidden=hidden)
    optimizer = partial(torch.optim.SGD, lr=1e-4, momentum=0.9)
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
        data: Any = Data(features, batch, TURN * len(watchers) * (rounds + 1))
        trainer.fit(Classifier(network, optimizer, backprop="autograd"), data)
    return {name: seconds[1:] for name, seconds in turns.seconds.items()}


def main() -> None:
    """Print a line for each network and watcher."""
    parser = argparse.ArgumentParser(description="What watching costs a training.")
    parser.add_argument("--rounds", type=int, default=9, help="turns that each watcher gets")
    rounds = parser.parse_args().rounds
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"{'network':<36}{'watched by':<14}{'step, ms':>9}{'cost':>9}{'CPU, ms':>9}{'cost':>9}")
    for network, shape in NETWORKS.items():
        watchers: dict[str, list[pl.Callback]] = {
            "nobody": [],
            "callbacks": [GradientHistograms(TURN), GradientNorms()],
            "naive way": [Naive()],
        }
        found = measure(*shape, rounds, watchers)
        for name, turns in found.items():
            line = f"{network:<36}{name:<14}"
            for clock in (0, 1):  # by the wall; of the processor, which others cannot lengthen
                # Against the turn of nobody in the same round: both had the same machine.
                over = [
                    a[clock] / b[clock] - 1 for a, b in zip(turns, found["nobody"], strict=True)
                ]
                step = statistics.median(turn[clock] for turn in turns) / TURN * 1e3
                line += f"{step:>9.2f}{statistics.median(over):>9.1%}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
