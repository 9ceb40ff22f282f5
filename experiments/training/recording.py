"""What a study needs to know of a fit, kept in memory while it runs."""

import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.trial import Outcome
from lightning_modules.callbacks import InStep, Trajectory


class Curves(pl.Callback):
    """Base of a study's own callbacks, whose curves become part of the record."""

    @abstractmethod
    def curves(self) -> dict[str, list[float]]:
        """Return sequences of numbers by name, when the fit has ended."""


class Record(Trajectory):
    """Keeps, beside the trajectory, the validation curves, the size of each step, and the audit.

    The curves of its outcome are ``train/loss``, one number a batch; ``step/ratio`` (the length
    of the step that the weights took over the length of the gradient, so the learning rate itself
    for plain SGD) and ``step/gradient`` (that length, before clipping), one number a step, which
    may be of several batches whose gradients are accumulated; one number an evaluation,
    ``val/step``, whatever the module logs as ``val/...``, and ``clock/val``, the seconds of
    training so far. Where a twin is trained in step there are also ``autograd/loss`` (its loss, one
    number a batch) and ``error/loss``, ``error/gradients`` and ``error/weights`` (the largest
    relative error of a layer, one number a step). A trial that is resumed goes on with all of them.

    The audit is the classifier's own, of the loss that its first training step returned: what a
    callback sees has been divided by the number of accumulated batches, by autograd.

    Args:
        threads: How many threads torch may use. A sum over two threads may round differently, so
            this number belongs to a configuration that is to give the same bits again.
    """

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self.threads = threads
        self.all_by_hand: bool | None = None
        self.metrics: dict[str, float] = {}
        self.curves: dict[str, list[float]] = {"val/step": [], "clock/val": []}
        self.compared: dict[str, Any] | None = None
        self.twin: dict[str, Tensor] = {}
        self._ratios: list[Tensor] = []
        self._lengths: list[Tensor] = []
        self._seconds = 0.0
        self._since = 0.0
        self._gradient = torch.zeros(())
        self._before: list[Tensor] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the number of threads before anything is computed."""
        torch.set_num_threads(self.threads)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep where the step starts from, and how long the gradient is."""
        if self._before:  # L-BFGS comes by at every point that it tries in a step
            return
        parameters = list(pl_module.parameters())
        self._gradient = _length(p.grad for p in parameters if p.grad is not None)
        self._before = [p.detach().clone() for p in parameters]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss, and how far the step went in lengths of the gradient."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not self._before:  # no step was taken: the gradients of several batches are accumulated
            return
        after = [p.detach() for p in pl_module.parameters()]
        step = _length(new - old for new, old in zip(after, self._before, strict=True))
        self._before = []
        self._ratios.append(step / self._gradient)
        self._lengths.append(self._gradient)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: an evaluation is no training."""
        self._seconds += time.perf_counter() - self._since

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a point of the validation curves."""
        self._since = time.perf_counter()
        if trainer.sanity_checking:
            return
        self.curves["val/step"].append(float(trainer.global_step))
        self.curves["clock/val"].append(self._seconds)
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/"):
                self.curves.setdefault(name, []).append(float(value))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fetch the numbers from the device, once."""
        super().on_fit_end(trainer, pl_module)
        if getattr(pl_module, "backprop", None) in ("manual", "both"):
            audit = getattr(pl_module, "audit", None)
            self.all_by_hand = audit is not None and bool(audit.all_by_hand)
        self.curves["train/loss"] = self.losses
        self.curves["step/ratio"] = stacked(self._ratios).tolist()
        self.curves["step/gradient"] = stacked(self._lengths).tolist()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, InStep):
                self._compare(callback)
            if isinstance(callback, Curves):
                self.curves |= callback.curves()

    def _compare(self, in_step: InStep) -> None:
        in_step.finish()
        comparison, twin = in_step.comparison, in_step.twin
        assert comparison is not None and twin is not None
        self.curves["autograd/loss"] = in_step.losses
        self.curves["error/loss"] = comparison.losses
        self.curves["error/gradients"] = comparison.gradients
        self.curves["error/weights"] = comparison.weights
        self.compared = comparison.summary()
        self.twin = {name: p.detach().cpu() for name, p in twin.named_parameters()}

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the figures of the test set."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.metrics |= {name: value for name, value in found.items() if name.startswith("test/")}

    def outcome(self) -> Outcome:
        """All of it."""
        weights = {name: tensor.numpy() for name, tensor in self.weights.items()}
        twin = {name: tensor.numpy() for name, tensor in self.twin.items()}
        return Outcome(
            self.metrics,
            self.curves,
            self.all_by_hand,
            weights,
            compared=self.compared,
            autograd_weights=twin,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that has been kept so far, as plain data."""
        self._seconds, self._since = (
            self._seconds + time.perf_counter() - self._since,
            time.perf_counter(),
        )
        kept = {name: torch.tensor(xs, dtype=torch.float64) for name, xs in self.curves.items()}
        return {
            **super().state_dict(),
            "curves": kept,
            "ratios": stacked(self._ratios),
            "lengths": stacked(self._lengths),
            "seconds": self._seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state_dict(state_dict)
        self.curves = {name: xs.tolist() for name, xs in state_dict["curves"].items()}
        self._ratios = list(state_dict["ratios"].unbind())
        self._lengths = list(state_dict["lengths"].unbind())
        self._seconds = state_dict["seconds"]


def stacked(numbers: list[Tensor]) -> Tensor:
    """As one float64 tensor on the CPU, (len(numbers), ...).

    In a trial that was resumed the first of them come from a checkpoint, and lie on the CPU, the
    others where it trains.
    """
    if not numbers:
        return torch.empty(0, dtype=torch.float64)
    return torch.stack([number.double().cpu() for number in numbers])


def _length(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean length of several tensors taken as one vector."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
