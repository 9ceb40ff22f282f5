"""What every LightningModule here has in common: trained by hand, by autograd, or both in step."""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

import manual_bp
import manual_bp.nn
from lightning_modules.callbacks.in_step import InStep
from lightning_modules.hyperparameters import described
from lightning_modules.networks import Namespace

Backprop = Literal["manual", "autograd", "both"]


class Learner(pl.LightningModule):
    """Base of the modules whose gradients come from hand-written backwards or from autograd.

    Everything else is the same on both sides: for the same seed the weights start equal. With
    ``backprop="manual"`` the layers come from ``manual_bp.nn`` and the training step runs under
    ``manual_bp.by_hand()``, so that what lies between the layers (residual add, flatten) is by
    hand too. With ``backprop="both"`` that is trained, and a twin by autograd in step with it:
    see :class:`lightning_modules.callbacks.InStep`.

    A task is a subclass with :meth:`loss_and_output`, and :meth:`score` for what is measured beside
    the loss (named in :attr:`metrics`); layers of its own, such as a loss, are made in
    :meth:`build`, from the namespace. :class:`Classifier` is the one to follow.

    Logged are ``train/...`` of a batch every ``log_every_n_steps`` steps (an argument of the
    trainer) and at the end of an epoch, ``val/...`` and ``test/...`` as means over their part, and
    ``hp/val_...`` for TensorBoard's HPARAMS page.

    Args:
        network: Builds the network from a namespace ``nn``, which is ``manual_bp.nn`` or
            ``torch.nn``: a class whose first argument is ``nn``, a ``functools.partial`` of one,
            or any callable. In YAML: ``class_path`` and ``init_args`` without ``nn``.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer. It is stepped after
            every epoch; ReduceLROnPlateau follows ``val/loss``.
        backprop: "manual", "autograd" or "both".

    Raises:
        ValueError: ``backprop`` is none of those names.
        TypeError: ``network`` does not build a module.

    Attributes:
        audit: Which operations of the first training step were by hand, None before it. It sees
            the loss as the step returns it: Lightning goes on to divide it by the number of
            accumulated batches, an operation that is always autograd's.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    """``loss``, and the names that :meth:`score` gives."""

    def __init__(
        self,
        network: Callable[[Namespace], torch.nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        backprop: Backprop = "manual",
    ) -> None:
        super().__init__()
        one_of("backprop", backprop, get_args(Backprop))
        for name, value in (("network", network), ("optimizer", optimizer)):
            if not callable(value):
                raise TypeError(f"{name} must be a callable that builds it, got {value!r}")
        if scheduler is not None and not callable(scheduler):
            raise TypeError(f"scheduler must be a callable that builds it, got {scheduler!r}")
        self._save_hyperparameters(network=network, optimizer=optimizer, scheduler=scheduler)

        self.backprop: Backprop = backprop
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._builder = network
        self.build(torch.nn if backprop == "autograd" else manual_bp.nn)
        self.audit: manual_bp.Audit | None = None
        self._random_state: dict[str, Any] | None = None

    def build(self, nn: Namespace) -> None:
        """Make everything that has layers, from the namespace ``nn``.

        A subclass that has more than the network extends it; it is called once more for the twin.
        """
        network = self._builder(nn)
        if not isinstance(network, torch.nn.Module):
            raise TypeError(f"network must build a torch.nn.Module, got {network!r}")
        self.network = network

    @abstractmethod
    def loss_and_output(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, a scalar, and the network's output."""

    def score(self, output: Tensor, batch: Any) -> Mapping[str, Tensor]:
        """Return what else is measured of an output, scalars by name; there is no gradient here."""
        return {}

    def samples(self, batch: Any) -> int:
        """How many samples a batch has, the weight of its metrics in a mean: rows of its last."""
        return len(batch[-1])

    def counterpart(self) -> "Learner":
        """The same module with the other kind of gradients and updates, and equal weights."""
        # What LightningCLI builds from holds on to its parser, which cannot be copied.
        builders = (self._builder, self.optimizer, self.scheduler)
        twin = copy.deepcopy(self, {id(builder): builder for builder in builders})
        twin.backprop = "manual" if self.backprop == "autograd" else "autograd"
        random_state = torch.get_rng_state()  # building draws weights, which are not used
        twin.build(manual_bp.nn if twin.backprop == "manual" else torch.nn)
        torch.set_rng_state(random_state)
        twin.to(next(self.parameters()))  # or float64 weights would be rounded on their way
        twin.load_state_dict(self.state_dict())
        if twin.backprop == "autograd":
            twin.optimizer = partial(_torchs_own, self.optimizer)
        return twin

    def differentiation(self) -> AbstractContextManager[Any]:
        """Return what a forward pass runs under, for the backward graph that is trained by."""
        return nullcontext() if self.backprop == "autograd" else manual_bp.by_hand()

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output for the inputs x."""
        return self.network(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        with self.differentiation():
            loss, output = self.loss_and_output(batch)
        if self.audit is None:
            self.audit = manual_bp.audit(loss)
        trainer = self.trainer
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if trainer.is_last_batch or (trainer.global_step + 1) % every == 0:
            # Not at every step: this takes as long as a step of a small network, and what
            # Lightning does not write at this step would be lost.
            self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True)
            for name, value in self.score(output.detach(), batch).items():
                self.log(f"train/{name}", value, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the metrics of a batch of the validation part."""
        measured = self._evaluate(batch, "val")
        metrics = {f"hp/val_{name}": value for name, value in measured.items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=self.samples(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the metrics of a batch of the test part."""
        self._evaluate(batch, "test")

    def configure_optimizers(self) -> Any:
        """Build the optimizer and, if there is one, the schedule."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        schedule = {"scheduler": self.scheduler(optimizer), "monitor": "val/loss"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_callbacks(self) -> list[pl.Callback]:
        """With ``backprop="both"``, train the twin."""
        return [InStep()] if self.backprop == "both" else []

    def on_fit_start(self) -> None:
        """Open the row of this run on TensorBoard's HPARAMS page."""
        self.audit = None
        hparams = self._all_hyperparameters()
        # TensorBoard makes a column of those metrics only that are named beside the
        # hyperparameters; the values follow with self.log.
        columns = {f"hp/val_{name}": math.nan for name in self.metrics}
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(hparams, columns)
            else:
                logger.log_hyperparams(hparams)

    def on_train_start(self) -> None:
        """Restore the random state of a run that is resumed."""
        if self._random_state is not None:
            torch.set_rng_state(self._random_state["cpu"])
            if self._random_state["cuda"] and torch.cuda.is_available():
                torch.cuda.set_rng_state_all(self._random_state["cuda"])
            self._random_state = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the random state, so that dropout goes on as if nothing had happened."""
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "cuda": cuda}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the random state where a fit is resumed; mere loading leaves the user's seed."""
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            self._random_state = checkpoint.get("random_state")
            # Lightning converts the module after it has loaded the weights: float64 would have
            # gone through float32 on its way.
            trainer.precision_plugin.convert_module(self)

    def _evaluate(self, batch: Any, part: str) -> Mapping[str, Tensor]:
        loss, output = self.loss_and_output(batch)
        measured = {"loss": loss, **self.score(output, batch)}
        metrics = {f"{part}/{name}": value for name, value in measured.items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=self.samples(batch))
        return measured

    def _save_hyperparameters(self, **builders: Callable[..., Any] | None) -> None:
        descriptions = {name: build and described(build) for name, build in builders.items()}
        lost = [name for name, build in builders.items() if build and descriptions[name] is None]
        # logger=False: on_fit_start writes them together with the metrics of the HPARAMS page.
        self.save_hyperparameters(ignore=lost, logger=False)
        for name, description in descriptions.items():
            # Under LightningCLI they are plain data already.
            if callable(self.hparams.get(name)):
                self.hparams[name] = description
                # The door through which Lightning rebuilds objects from such a description.
                self.hparams["_instantiator"] = "pytorch_lightning.cli.instantiate_module"

    def _all_hyperparameters(self) -> dict[str, Any]:
        datamodule = getattr(self.trainer, "datamodule", None)
        hparams = dict(self.hparams) | (dict(datamodule.hparams) if datamodule else {})
        return {name: value for name, value in hparams.items() if not name.startswith("_")}


def _torchs_own(build: OptimizerCallable, parameters: Any) -> torch.optim.Optimizer:
    """The optimizer that ``build`` makes; one of manual_bp.optim as torch.optim has it."""
    made = build(parameters)
    if not type(made).__module__.startswith("manual_bp."):
        return made
    native: type[torch.optim.Optimizer] = getattr(torch.optim, type(made).__name__)
    return native(made.param_groups)  # type: ignore[call-arg]


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of those allowed.

    Raises:
        ValueError: The message names the value and what was expected.
    """
    if value not in allowed:
        *others, last = (f'"{choice}"' for choice in allowed)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")
