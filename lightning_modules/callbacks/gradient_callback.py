"""When a step's gradients can be seen, and which they are."""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

Stage: TypeAlias = Literal["before_clipping", "after_clipping"]
Gradients: TypeAlias = dict[str, Tensor]


class GradientCallback(pl.Callback):
    """Base of the callbacks that log gradients: it finds the moments, subclasses do the logging.

    Gradients are seen when they are complete: once an optimizer step, after the last of the
    accumulated batches, unscaled under automatic mixed precision. Where something may change them
    before the optimizer uses them, they are seen twice:

    - ``before_clipping`` in ``on_before_optimizer_step``, which Lightning calls between the
      backward pass and the clipping;
    - ``after_clipping`` in ``on_train_batch_end``: the optimizer step has read them by then, but
      leaves them in place. This stage is left out where it could only repeat the first one: no
      ``gradient_clip_val``, and neither ``configure_gradient_clipping`` nor
      ``on_before_optimizer_step`` overridden by the module.

    With manual optimization the module clips by itself, before Lightning comes to know of the
    step; what is seen is what the optimizer receives, as ``after_clipping``.

    Steps are numbered as Lightning numbers them for the metrics of a training step. Sharded
    gradients (FSDP, DeepSpeed) are seen as the shard of the first process.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are logged.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._changed_later = False
        self._awaiting_step: int | None = None
        self._seen: tuple[int, int] | None = None
        self._named: dict[tuple[int, ...], list[tuple[str, Tensor]]] = {}

    @abstractmethod
    def loggers(self, trainer: pl.Trainer) -> list[Any]:
        """Return those of the trainer's loggers that this callback can write to."""

    @abstractmethod
    def log_gradients(
        self, loggers: list[Any], gradients: Gradients, stage: Stage, step: int
    ) -> None:
        """Write the gradients of one step.

        Args:
            loggers: What :meth:`loggers` returned; not empty.
            gradients: Dense, detached gradients by parameter name. They are the live ones: not
                to be changed.
            stage: Before or after the clipping.
            step: Number of the optimizer step, from 0.
        """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out whether gradients change between the backward pass and the step."""
        self._awaiting_step = self._seen = None
        self._named.clear()
        # Zero is how some configurations spell "no clipping".
        self._changed_later = bool(trainer.gradient_clip_val) or any(
            is_overridden(hook, pl_module)
            for hook in ("configure_gradient_clipping", "on_before_optimizer_step")
        )
        # fast_dev_run takes the loggers away on purpose.
        if not self.loggers(trainer) and not getattr(trainer, "fast_dev_run", False):
            rank_zero_warn(
                f"{type(self).__name__} logs nothing: the trainer has no logger it can write to"
            )

    def on_before_optimizer_step(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Log the gradients as the backward pass left them."""
        # With k optimizers Lightning counts k steps where its logs count one.
        step = trainer.global_step // max(1, len(trainer.optimizers))
        seen = (step, id(optimizer))
        # An optimizer that calls its closure several times in a step (LBFGS) comes by as often.
        if step % self.every_n_steps or seen == self._seen:
            return
        self._seen = seen
        scale = _loss_scale(trainer, optimizer)
        stage: Stage = "before_clipping"
        if not pl_module.automatic_optimization:
            stage = "after_clipping"
        elif self._changed_later:
            self._awaiting_step = step
        self._log(trainer, pl_module, optimizer, stage, step, scale)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the gradients as the optimizer used them."""
        if self._awaiting_step is None:
            return
        step, self._awaiting_step = self._awaiting_step, None
        self._log(trainer, pl_module, trainer.optimizers[0], "after_clipping", step, 1.0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the parameters."""
        self._named.clear()

    def _log(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        optimizer: torch.optim.Optimizer,
        stage: Stage,
        step: int,
        scale: float,
    ) -> None:
        loggers = self.loggers(trainer)
        if not loggers or not trainer.is_global_zero:
            return
        gradients = _gradients(self._parameters(pl_module, optimizer))
        if scale != 1:
            gradients = {name: gradient / scale for name, gradient in gradients.items()}
        if gradients:
            self.log_gradients(loggers, gradients, stage, step)

    def _parameters(
        self, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> list[tuple[str, Tensor]]:
        """Return the parameters that this optimizer steps, in the module's order, with names.

        They are remembered, as long as the optimizer has the same ones: a walk through all modules
        at every step would take a third of the time that the norms take.
        """
        stepped = tuple([id(p) for group in optimizer.param_groups for p in group["params"]])
        if stepped not in self._named:
            chosen = set(stepped)
            self._named[stepped] = [
                # torch.compile wraps a module under a name of its own.
                (name.replace("_orig_mod.", ""), parameter)
                for name, parameter in pl_module.named_parameters()
                if id(parameter) in chosen
            ]
        return self._named[stepped]


def module_and_parameter(name: str) -> tuple[str, str]:
    """Split a parameter's name: "network.linear1.weight" into "network.linear1" and "weight"."""
    module, _, parameter = name.rpartition(".")
    return module, parameter


@lru_cache(maxsize=64)
def layers_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The layer of each parameter: the module that holds it, or itself."""
    return tuple(module_and_parameter(name)[0] or name for name in names)


def _gradients(parameters: list[tuple[str, Tensor]]) -> Gradients:
    """Return the gradients of those that have one."""
    gradients: Gradients = {}
    for name, parameter in parameters:
        gradient = parameter.grad
        if gradient is None or gradient.numel() == 0:
            continue
        if gradient.requires_grad:
            gradient = gradient.detach()
        if gradient.is_sparse:
            # The rows that are not stored are zero: no norm sees them, no histogram needs them.
            gradient = gradient.coalesce().values()
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        gradients[name] = gradient
    return gradients


def _loss_scale(trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> float:
    """Return what the gradients are still multiplied by in on_before_optimizer_step.

    Lightning has unscaled them by then, except for optimizers that do it inside their step (the
    fused ones).
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return float(scaler.get_scale())
