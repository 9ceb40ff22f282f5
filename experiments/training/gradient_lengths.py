"""How long the gradient of chosen parameters is, step by step."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training.recording import Curves, stacked


class GradientLengths(Curves):
    """Keeps the Euclidean length of the gradient of each parameter with one of the endings.

    The curves are ``length/<name of the parameter>``, one number for each step, before clipping.

    Args:
        endings: Of the parameters' names: ["down.weight"].
    """

    def __init__(self, endings: Sequence[str]) -> None:
        super().__init__()
        self.endings = tuple(endings)
        self._kept: dict[str, list[Tensor]] = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure."""
        for name, parameter in pl_module.named_parameters():
            if name.endswith(self.endings) and parameter.grad is not None:
                length = torch.linalg.vector_norm(parameter.grad.detach()).double()
                self._kept.setdefault(f"length/{name}", []).append(length)

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        return {name: stacked(numbers).tolist() for name, numbers in self._kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {name: stacked(numbers) for name, numbers in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = {name: list(numbers.unbind()) for name, numbers in state_dict.items()}
