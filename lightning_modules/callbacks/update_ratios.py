"""How far a step goes, measured by what it changes."""

import math
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from lightning_modules.callbacks.gradient_callback import layers_of
from lightning_modules.callbacks.gradient_norms import norms
from lightning_modules.callbacks.scalars import Scalars


class UpdateRatios(pl.Callback):
    """Log the length of each layer's update over the length of its weights.

    Tags are ``update_to_weight/<layer>``, and ``update_to_weight_of_all/largest`` and
    ``.../smallest`` in a group of their own, on top. About 1e-3 is common for a network that trains
    well; a layer far below hardly moves, one far above is being overwritten. A layer whose weights
    are all zero, such as a bias of its own at the start, is left out.

    The weights are copied at the steps that are logged, and at no other.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are logged.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._scalars = Scalars()
        self._before: dict[str, Tensor] = {}
        self._step = -1

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Copy the weights before a step that is logged."""
        step = trainer.global_step // max(1, len(trainer.optimizers))
        if step % self.every_n_steps or step == self._step or not trainer.is_global_zero:
            return
        self._step = step
        self._before = {
            name.replace("_orig_mod.", ""): parameter.detach().clone()
            for name, parameter in pl_module.named_parameters()
            if parameter.requires_grad and parameter.numel()
        }

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log how far the weights have gone, once the optimizer has stepped."""
        if not self._before:
            return
        if trainer.global_step // max(1, len(trainer.optimizers)) == self._step:
            return  # the first of several batches that are accumulated: no step was taken yet
        before, self._before = self._before, {}
        now = {n.replace("_orig_mod.", ""): p.detach() for n, p in pl_module.named_parameters()}
        layers = layers_of(tuple(before))
        lengths, moved = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
        weights = norms(list(before.values()))
        updates = norms([now[name] - old for name, old in before.items()])
        for layer, weight, update in zip(layers, weights, updates, strict=True):
            lengths[layer] = math.hypot(lengths[layer], weight)
            moved[layer] = math.hypot(moved[layer], update)
        ratios = {layer: moved[layer] / length for layer, length in lengths.items() if length}
        if ratios:
            metrics = {f"update_to_weight/{layer}": ratio for layer, ratio in ratios.items()}
            metrics["update_to_weight_of_all/largest"] = max(ratios.values())
            metrics["update_to_weight_of_all/smallest"] = min(ratios.values())
            self._scalars.add(trainer.loggers, metrics, self._step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what is left."""
        self._step = -1
        self._scalars.write()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Log what led to it."""
        self._scalars.write()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log what a resumed fit will not log again."""
        self._scalars.write()
