"""What comes out of the activations: histograms, dead and saturated units."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from lightning_modules.callbacks.histogram import histogram, sample
from lightning_modules.callbacks.scalars import Scalars

ACTIVATIONS = (
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU"),
    *("Mish", "Softplus", "Hardswish", "Hardtanh", "Sigmoid", "Hardsigmoid", "LogSigmoid", "Tanh"),
    *("Hardshrink", "Softshrink", "Tanhshrink", "Softsign", "Threshold"),
)

# Where the slope is below a twentieth of its largest value: 1 - y^2 and 4 y (1 - y).
_FLAT = {
    "Tanh": lambda y: y.abs() > 0.975,
    "Sigmoid": lambda y: (y - 0.5).abs() > 0.4875,
}


class Activations(pl.Callback):
    """Log what comes out of each activation of a network, for any LightningModule.

    Tags are ``activations/<layer>`` (a histogram), ``dead_units/<layer>`` and, for sigmoid and
    tanh, ``saturated_units/<layer>``. A unit is dead when its output is the same for every sample
    (and place) of the batch, so that it tells nothing and a ReLU's passes no gradient: a share of
    the units. An output is saturated where the slope is below a twentieth of its largest value: a
    share of all outputs. ``dead_units_of_all`` and ``saturated_units_of_all`` are the means over
    the layers, in a group of their own, on top. A module that is called several times in a step is
    seen as it was called last.

    Args:
        every_n_steps: Training steps 0, n, 2n, ... are looked at.
        classes: Names of the classes of modules that are looked at; subclasses of other names
            are not.
        max_values: Values of one output that go into its histogram, at most.

    Raises:
        ValueError: An argument is not positive, or there is no class.
    """

    def __init__(
        self,
        every_n_steps: int = 50,
        classes: Sequence[str] = ACTIVATIONS,
        max_values: int = 65536,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        if max_values < 1:
            raise ValueError(f"max_values must be positive, got {max_values}")
        if not classes:
            raise ValueError("classes must name at least one class of modules, got none")
        self.every_n_steps = every_n_steps
        self.classes = tuple(classes)
        self.max_values = max_values
        self._scalars = Scalars()
        self._hooks: list[RemovableHandle] = []
        self._seen: dict[str, tuple[str, Tensor]] = {}
        self._step: int | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch this batch, if it is one to look at; else there is no hook in the way."""
        step = trainer.global_step // max(1, len(trainer.optimizers))
        new = self._step != step  # of accumulated batches the first one is looked at
        if step % self.every_n_steps or not new or not trainer.is_global_zero:
            return
        self._step = step
        for name, module in pl_module.named_modules():
            kind = type(module).__name__
            if kind in self.classes:
                short = name.replace("_orig_mod.", "")
                self._hooks.append(module.register_forward_hook(self._keep(short, kind)))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log what was seen."""
        self._unhook()
        seen, self._seen = self._seen, {}
        if seen and self._step is not None:
            self._log(trainer, seen, self._step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what is left."""
        self._step = None
        self._scalars.write()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Take the hooks away, and log what led to it."""
        self._unhook()
        self._scalars.write()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log what a resumed fit will not log again."""
        self._scalars.write()

    def _keep(self, name: str, kind: str) -> Any:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.numel() and output.is_floating_point():
                self._seen[name] = kind, output.detach()

        return hook

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _log(self, trainer: pl.Trainer, seen: dict[str, tuple[str, Tensor]], step: int) -> None:
        metrics: dict[str, float] = {}
        for name, (kind, y) in seen.items():
            metrics[f"dead_units/{name}"] = dead(y)
            if kind in _FLAT:
                metrics[f"saturated_units/{name}"] = float(_FLAT[kind](y).float().mean())
            found = histogram(sample(y, self.max_values).cpu().numpy())
            for logger in trainer.loggers if found is not None else ():
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_histogram_raw(
                        f"activations/{name}",
                        **found._asdict(),  # type: ignore[union-attr]
                        global_step=step,
                    )
        for group in ("dead_units", "saturated_units"):
            shares = [share for tag, share in metrics.items() if tag.startswith(f"{group}/")]
            if shares:
                metrics[f"{group}_of_all/mean"] = sum(shares) / len(shares)
        self._scalars.add(trainer.loggers, metrics, step)


def dead(y: Tensor) -> float:
    """The share of units whose output is the same for all samples and places.

    Args:
        y: Outputs: (N, units), (N, channels, ...) as of a convolution, or (N, T, units) as of a
            sequence. With one sample, or one dimension, no unit is dead.

    Returns:
        From 0 to 1; units of four or more dimensions are the channels, else the last dimension.
    """
    if y.ndim < 2 or y.shape[0] < 2:
        return 0.0
    units = 1 if y.ndim > 3 else y.ndim - 1
    flat = y.movedim(units, 0).flatten(1)
    return float((flat == flat[:, :1]).all(dim=1).float().mean())
