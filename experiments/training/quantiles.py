"""How the inputs of a layer's units are spread, and how that drifts in the course of a training."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from experiments.training.recording import Curves

PERCENTILES = (15, 50, 85)
"""Those of Ioffe & Szegedy 2015, figure 1."""


class Quantiles(Curves):
    """Keeps the 15th, 50th and 85th percentile of what each unit of a layer receives.

    They are taken over the samples of a training batch. The curves are, one number a unit,
    ``travel`` (how far its median has got, highest less lowest) and ``jump`` (how far it is from
    one look to the next, on average); and of one typical unit, that of the median travel, one
    number a look, ``quantile/15``, ``quantile/50`` and ``quantile/85``.

    Args:
        layer: The layer's name within the network: "activation3". Its input has the shape
            (N, units).
        every_n_steps: Steps 0, n, 2n, ... are looked at.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, layer: str, every_n_steps: int = 1) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.layer = layer
        self.every_n_steps = every_n_steps
        self._looks: list[Tensor] = []
        self._hook: RemovableHandle | None = None
        self._watching = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put a hook on the layer."""
        layer = pl_module.get_submodule(f"network.{self.layer}")
        self._hook = layer.register_forward_pre_hook(lambda _, inputs: self._look(inputs[0]))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at every n-th step."""
        self._watching = trainer.global_step % self.every_n_steps == 0

    def on_train_batch_end(self, *args: Any) -> None:
        """Look away, so that an evaluation is not taken for training."""
        self._watching = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the hook off."""
        if self._hook is not None:
            self._hook.remove()

    def curves(self) -> dict[str, list[float]]:
        """How far each unit's median moves, and the percentiles of the typical unit."""
        looks = torch.stack(self._looks)  # (looks, 3, units)
        medians = looks[:, 1]
        travel = medians.amax(0) - medians.amin(0)
        jump = medians.diff(dim=0).abs().mean(0)
        typical = int(travel.argsort()[len(travel) // 2])
        found = {
            f"quantile/{percent}": looks[:, i, typical].tolist()
            for i, percent in enumerate(PERCENTILES)
        }
        return {"travel": travel.tolist(), "jump": jump.tolist(), **found}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {"looks": torch.stack(self._looks)} if self._looks else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._looks = list(state_dict["looks"].unbind()) if state_dict else []

    def _look(self, received: Tensor) -> None:
        if self._watching:
            at = torch.tensor(PERCENTILES, dtype=received.dtype, device=received.device) / 100
            self._looks.append(torch.quantile(received.detach(), at, dim=0).double().cpu())
