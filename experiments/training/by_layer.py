"""What happens at each layer of a network: how large its outputs are, and their gradients."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from experiments.training.recording import Curves


class ByLayer(Curves):
    """Keeps, for each activation of the network, how outputs and their gradients are spread.

    The curves, one number for each step that is looked at, are ``output/<layer>`` and
    ``gradient/<layer>`` (standard deviation over the batch and the units, the gradient being that
    of the mean loss), ``dead/<layer>`` (share of units whose gradient is 0 for every sample of the
    batch) and ``saturated/<layer>`` (share of outputs beyond 0.95 in size; for tanh).

    A gradient is seen by a hook on the tensor, which adds no operation to the backward graph.

    Args:
        layers: Names of classes whose outputs are looked at: ["Tanh", "ReLU"].
        every_n_steps: Steps 0, n, 2n, ... are looked at.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, layers: Sequence[str], every_n_steps: int = 1) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.layers = tuple(layers)
        self.every_n_steps = every_n_steps
        self._kept: dict[str, list[Tensor]] = {}
        self._hooks: list[RemovableHandle] = []
        self._watching = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put a hook on each layer."""
        for name, module in pl_module.named_modules():
            if type(module).__name__ in self.layers:
                short = name.rpartition(".")[2] or name
                self._hooks.append(
                    module.register_forward_hook(
                        lambda module, args, output, name=short: self._look(name, output)
                    )
                )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at every n-th step."""
        self._watching = trainer.global_step % self.every_n_steps == 0

    def on_train_batch_end(self, *args: Any) -> None:
        """Look away, so that an evaluation is not taken for training."""
        self._watching = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        return {name: torch.stack(numbers).tolist() for name, numbers in self._kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {name: torch.stack(numbers).cpu() for name, numbers in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = {name: list(numbers.unbind()) for name, numbers in state_dict.items()}

    def _look(self, name: str, output: Tensor) -> None:
        if not (self._watching and output.requires_grad):
            return
        seen = output.detach()
        self._keep(f"output/{name}", seen.std())
        self._keep(f"saturated/{name}", (seen.abs() > 0.95).double().mean())
        output.register_hook(lambda gradient: self._look_back(name, seen, gradient))

    def _look_back(self, name: str, output: Tensor, gradient: Tensor) -> None:
        self._keep(f"gradient/{name}", gradient.std())
        # ReLU hands nothing on where its output is 0.
        silent = (gradient == 0) | (output == 0)
        self._keep(f"dead/{name}", silent.all(0).double().mean())

    def _keep(self, name: str, value: Tensor) -> None:
        self._kept.setdefault(name, []).append(value.double())
