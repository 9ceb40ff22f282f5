"""How often the gradient is computed, which for some optimizers is more than once a step."""

from typing import Any

import pytorch_lightning as pl
import torch

from experiments.training.recording import Curves


class Evaluations(Curves):
    """Keeps how many gradients had been computed after each training batch: ``evaluations``.

    An optimizer that is given a closure, such as L-BFGS, computes one at each point that it tries.
    """

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._kept: list[float] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Count; Lightning calls this whenever a gradient is ready."""
        self._count += 1

    def on_train_batch_end(self, *args: Any) -> None:
        """Keep the count."""
        self._kept.append(float(self._count))

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return {"evaluations": self._kept}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {"count": self._count, "kept": torch.tensor(self._kept, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._count, self._kept = state_dict["count"], state_dict["kept"].tolist()
