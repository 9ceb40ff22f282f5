"""What a study needs to know of a fit, kept in memory while it runs."""

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.trial import Outcome
from lightning_modules.callbacks import Trajectory


class Record(Trajectory):
    """Keeps, beside the trajectory, the validation curves, the size of each step, and the audit.

    The curves of its outcome are ``train/loss`` (one number a step), ``step/ratio`` (the length of
    the step that the weights took over the length of the gradient, so the learning rate itself for
    plain SGD), ``val/step``, ``val/loss`` and ``val/accuracy`` (one number an evaluation).

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
        self.curves: dict[str, list[float]] = {"val/step": [], "val/loss": [], "val/accuracy": []}
        self._ratios: list[Tensor] = []
        self._gradient = torch.zeros(())
        self._before: list[Tensor] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the number of threads before anything is computed."""
        torch.set_num_threads(self.threads)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep where the step starts from, and how long the gradient is."""
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
        after = [p.detach() for p in pl_module.parameters()]
        step = _length(new - old for new, old in zip(after, self._before, strict=True))
        self._ratios.append(step / self._gradient)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a point of the validation curves."""
        if trainer.sanity_checking:
            return
        self.curves["val/step"].append(trainer.global_step)
        for name in ("val/loss", "val/accuracy"):
            self.curves[name].append(float(trainer.callback_metrics[name]))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fetch the numbers from the device, once."""
        super().on_fit_end(trainer, pl_module)
        if getattr(pl_module, "backprop", None) == "manual":
            audit = getattr(pl_module, "audit", None)
            self.all_by_hand = audit is not None and bool(audit.all_by_hand)
        self.curves["train/loss"] = self.losses
        self.curves["step/ratio"] = torch.stack(self._ratios).double().tolist()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the figures of the test set."""
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.metrics |= {name: value for name, value in found.items() if name.startswith("test/")}

    def outcome(self) -> Outcome:
        """All of it."""
        weights = {name: tensor.numpy() for name, tensor in self.weights.items()}
        return Outcome(self.metrics, self.curves, self.all_by_hand, weights)


def _length(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean length of several tensors taken as one vector."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
