"""The path of a training run."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class Trajectory(pl.Callback):
    """Record the loss of every training step, and the parameters at the end.

    Two runs, one by hand and one by autograd, can then be compared step by step. The losses are
    part of the checkpoints: after a resumed fit they cover the whole run.

    A loss is the mean over its batch, also where gradients are accumulated over several batches
    (one entry a batch). A batch whose training step returned no loss has the entry NaN.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._pending: list[Tensor] = []
        self._weights: dict[str, Tensor] = {}

    @property
    def losses(self) -> list[float]:
        """The loss of each training batch so far, as float64."""
        if self._pending:
            self._losses += torch.stack(self._pending).tolist()
            self._pending.clear()
        return self._losses

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters at the end of the last fit, by name, on the CPU; empty before that."""
        return self._weights

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take down the loss of the step."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            loss = torch.tensor(torch.nan, device=pl_module.device)
        elif pl_module.automatic_optimization:
            # Lightning has divided it by the number of batches that are accumulated.
            loss = loss * trainer.accumulate_grad_batches
        # Still on its device: fetching every loss would make an accelerator wait at every step.
        self._pending.append(loss.detach().double())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fetch the epoch's losses from the device."""
        _ = self.losses

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the parameters."""
        self._weights = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in pl_module.named_parameters()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far, as a float64 tensor (steps,)."""
        return {"losses": torch.tensor(self.losses, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the losses of a checkpoint."""
        self._losses = state_dict["losses"].tolist()
        self._pending.clear()
