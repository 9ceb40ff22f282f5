"""What is wrong with the gradients, found while a module trains."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path

from lightning_modules.callbacks.random_state import random_state, set_random_state
from manual_bp.explain.diagnosis import Diagnosis, Finding, examine


class GradientDiagnosis(pl.Callback):
    """Run :func:`manual_bp.diagnose` on a training's own batches, and tell what it finds.

    Before the steps 0, n, 2n, ... the training step is taken once more for watching, and the
    optimizer's step is tried out on copies. Besides, a loss or a gradient that is not finite is
    traced at once to the operation that made it, before the optimizer spoils the weights with it;
    this needs to look at each loss and, without a gradient scaler, at each gradient.

    The training itself goes on as if nothing had happened: weights, buffers, gradients, random
    numbers and logged metrics are those of a training without this callback. Only what a training
    step changes besides is changed twice (a counter of its own, the state of a metric).

    A finding is told once, as a warning, and in TensorBoard as a text, "diagnosis"; a healthy
    training hears nothing.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are diagnosed.

    Raises:
        ValueError: every_n_steps is not positive; or, when the fit starts, the module steps its
            optimizers itself: its training step cannot be taken a second time.

    Attributes:
        diagnoses: By step, also those without findings.
    """

    def __init__(self, every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.diagnoses: dict[int, Diagnosis] = {}
        self._told: set[tuple[str, str]] = set()
        self._batch: tuple[Any, int] = (None, 0)
        self._random: tuple[Any, ...] = ()
        self._broken = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what cannot be watched."""
        if not pl_module.automatic_optimization:
            raise ValueError(
                f"GradientDiagnosis takes the training step a second time, and that of "
                f"{type(pl_module).__name__} steps its optimizers itself"
            )
        self.diagnoses.clear()
        self._told.clear()
        self._broken = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Diagnose the step that comes, if it is its turn."""
        self._batch = batch, batch_idx
        self._random = random_state(pl_module.device)
        step = _step(trainer)
        if step % self.every_n_steps == 0 and step not in self.diagnoses:
            self._diagnose(trainer, pl_module, step)

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Trace a loss that is not finite."""
        if not self._broken and not bool(loss.detach().isfinite().all()):
            self._broken = True
            self._diagnose(trainer, pl_module, _step(trainer))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Trace a gradient that is not finite."""
        # A gradient scaler provokes infinities, and skips the steps that have them.
        if self._broken or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norms = torch._foreach_norm([g._values() if g.is_sparse else g for g in gradients])
        if norms and not bool(torch.stack([n.double() for n in norms]).isfinite().all()):
            self._broken = True
            self._diagnose(trainer, pl_module, _step(trainer))

    def _diagnose(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> None:
        batch, batch_idx = self._batch
        arguments = {"batch": batch}
        if is_param_in_hook_signature(pl_module.training_step, "batch_idx", min_args=2):
            arguments["batch_idx"] = batch_idx

        def run() -> Tensor:
            with trainer.precision_plugin.train_step_context():
                output = pl_module.training_step(*arguments.values())
            loss = output["loss"] if isinstance(output, dict) else output
            assert isinstance(loss, Tensor)
            return loss

        here = random_state(pl_module.device)
        set_random_state(pl_module.device, self._random)
        # What the watched step logs would be logged twice.
        pl_module.__dict__["log"] = _silent
        optimizers = trainer.optimizers
        try:
            diagnosis = examine(
                pl_module, run, dict(_named(batch)), optimizers[0] if len(optimizers) == 1 else None
            )
        except AssertionError:  # a step without a loss is one that Lightning skips
            return
        finally:
            del pl_module.__dict__["log"]
            set_random_state(pl_module.device, here)
        self.diagnoses[step] = diagnosis
        self._tell(trainer, diagnosis, step)

    def _tell(self, trainer: pl.Trainer, diagnosis: Diagnosis, step: int) -> None:
        new = [f for f in diagnosis if (f.kind, f.where) not in self._told]
        self._told |= {(f.kind, f.where) for f in new}
        if not new or not trainer.is_global_zero:
            return
        for finding in new:
            rank_zero_warn(f"step {step}: {finding} {finding.cure}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                text = "\n".join(_markdown(finding) for finding in new)
                logger.experiment.add_text("diagnosis", text, step)


def _step(trainer: pl.Trainer) -> int:
    # With k optimizers Lightning counts k steps where its logs count one.
    return trainer.global_step // max(1, len(trainer.optimizers))


def _silent(*_: Any, **__: Any) -> None:
    """Log nothing."""


def _named(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch: ``batch[0]``, ``batch['mask']``."""
    leaves, _ = tree_flatten_with_path(batch)
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            yield "batch" + "".join(map(str, path)), leaf


def _markdown(finding: Finding) -> str:
    lines = [f"- **{finding.title}** ({finding.severity}): {finding.text}"]
    lines += [f"  `{summary}`" for summary in finding.tensors]
    return "  \n".join([*lines, f"  *Cure:* {finding.cure} ({finding.source})"])
