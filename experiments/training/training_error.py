"""How many of its training samples a classifier gets wrong."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from experiments.training.recording import Curves, stacked


class TrainingError(Curves):
    """Keeps the share of each training batch that the network misjudges, before its step.

    The curve is ``train/error``, one number a batch. The network gives logits, (N, classes), of
    batches (x, y).
    """

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[Tensor] = []
        self._logits = torch.empty(0)
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put a hook on the network."""
        network = pl_module.get_submodule("network")
        self._hook = network.register_forward_hook(lambda _, inputs, output: self._look(output))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the errors of the batch."""
        self._errors.append((self._logits.argmax(1) != batch[1]).double().mean())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the hook off."""
        if self._hook is not None:
            self._hook.remove()

    def curves(self) -> dict[str, list[float]]:
        """The error of each batch."""
        return {"train/error": stacked(self._errors).tolist()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {"errors": stacked(self._errors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._errors = list(state_dict["errors"].unbind())

    def _look(self, logits: Tensor) -> None:
        self._logits = logits.detach()
