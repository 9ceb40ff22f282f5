"""A classifier that is trained by hand or by autograd."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

import manual_bp
import manual_bp.nn
from lightning_modules.hyperparameters import described
from lightning_modules.networks import Namespace

Backprop = Literal["manual", "autograd"]
Loss = Literal["CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss"]


class Classifier(pl.LightningModule):
    """Train a network to classify; its gradients come from hand-written backwards or autograd.

    Everything else is the same on both sides: for the same seed the weights start equal. With
    ``backprop="manual"`` the layers come from ``manual_bp.nn`` and the training step runs under
    ``manual_bp.by_hand()``, so that what lies between the layers (residual add, flatten) is by
    hand too.

    The network gives logits: (N, classes) with CrossEntropyLoss, (N, 1) with the two binary
    losses. Targets are int64 class indices, (N,).

    Logged are ``train/loss`` and ``train/accuracy`` of a batch every ``log_every_n_steps`` steps
    (an argument of the trainer) and at the end of an epoch, ``val/...`` and ``test/...`` as means
    over their part, and ``hp/val_loss`` and ``hp/val_accuracy`` for TensorBoard's
    HPARAMS page.

    Args:
        network: Builds the network from a namespace ``nn``, which is ``manual_bp.nn`` or
            ``torch.nn``: a class whose first argument is ``nn``, a ``functools.partial`` of one,
            or any callable. In YAML: ``class_path`` and ``init_args`` without ``nn``.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer. It is stepped after
            every epoch; ReduceLROnPlateau follows ``val/loss``.
        backprop: "manual" or "autograd".
        loss: "CrossEntropyLoss"; for two classes and one logit also "BCEWithLogitsLoss", or
            "MSELoss", the squared error of ``sigmoid(logit)``.

    Raises:
        ValueError: ``backprop`` or ``loss`` is none of those names, or the logits do not have
            the shape that the loss needs.
        TypeError: ``network`` does not build a module.

    Attributes:
        audit: Which operations of the first training step were by hand, None before it. It sees
            the loss as the step returns it: Lightning goes on to divide it by the number of
            accumulated batches, an operation that is always autograd's.

    Example::

        Classifier(partial(MLP, hidden=(32,)), optimizer=partial(torch.optim.SGD, lr=0.1))
    """

    def __init__(
        self,
        network: Callable[[Namespace], torch.nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        backprop: Backprop = "manual",
        loss: Loss = "CrossEntropyLoss",
    ) -> None:
        super().__init__()
        _one_of("backprop", backprop, get_args(Backprop))
        _one_of("loss", loss, get_args(Loss))
        for name, value in (("network", network), ("optimizer", optimizer)):
            if not callable(value):
                raise TypeError(f"{name} must be a callable that builds it, got {value!r}")
        if scheduler is not None and not callable(scheduler):
            raise TypeError(f"scheduler must be a callable that builds it, got {scheduler!r}")
        self._save_hyperparameters(network=network, optimizer=optimizer, scheduler=scheduler)

        self.backprop: Backprop = backprop
        self.optimizer = optimizer
        self.scheduler = scheduler
        nn: Namespace = manual_bp.nn if backprop == "manual" else torch.nn
        self.network = network(nn)
        if not isinstance(self.network, torch.nn.Module):
            raise TypeError(f"network must build a torch.nn.Module, got {self.network!r}")
        self.loss = getattr(nn, loss)()
        self.loss_name: Loss = loss
        self.audit: manual_bp.Audit | None = None
        self._random_state: dict[str, Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the inputs x, (N, ...)."""
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean loss of a batch (x, y)."""
        with self._differentiation():
            loss, logits = self._loss_and_logits(*batch)
        if self.audit is None:
            self.audit = manual_bp.audit(loss)
        trainer = self.trainer
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if trainer.is_last_batch or (trainer.global_step + 1) % every == 0:
            # Not at every step: these two calls take as long as a step of a small network, and
            # what Lightning does not write at this step would be lost.
            accuracy = self._accuracy(logits, batch[1])
            self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True)
            self.log("train/accuracy", accuracy, on_step=True, on_epoch=False)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and accuracy of a batch of the validation part."""
        loss, accuracy = self._evaluate(batch, "val")
        metrics = {"hp/val_loss": loss, "hp/val_accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(batch[1]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the loss and accuracy of a batch of the test part."""
        self._evaluate(batch, "test")

    def configure_optimizers(self) -> Any:
        """Build the optimizer and, if there is one, the schedule."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        schedule = {"scheduler": self.scheduler(optimizer), "monitor": "val/loss"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_fit_start(self) -> None:
        """Open the row of this run on TensorBoard's HPARAMS page."""
        self.audit = None
        hparams = self._all_hyperparameters()
        # TensorBoard makes a column of those metrics only that are named beside the
        # hyperparameters; the values follow with self.log.
        columns = {"hp/val_loss": math.nan, "hp/val_accuracy": math.nan}
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

    def _differentiation(self) -> AbstractContextManager[Any]:
        return manual_bp.by_hand() if self.backprop == "manual" else nullcontext()

    def _loss_and_logits(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = self(x)
        if self.loss_name == "CrossEntropyLoss":
            return self.loss(logits, y), logits
        if logits.shape != (len(y), 1):
            raise ValueError(
                f"{self.loss_name} needs one logit a sample, shape ({len(y)}, 1), "
                f"but the network gave {tuple(logits.shape)}"
            )
        targets = y.to(logits.dtype).unsqueeze(1)
        outputs = logits.sigmoid() if self.loss_name == "MSELoss" else logits
        return self.loss(outputs, targets), logits

    def _evaluate(self, batch: tuple[Tensor, Tensor], part: str) -> tuple[Tensor, Tensor]:
        loss, logits = self._loss_and_logits(*batch)
        accuracy = self._accuracy(logits, batch[1])
        metrics = {f"{part}/loss": loss, f"{part}/accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(batch[1]))
        return loss, accuracy

    def _accuracy(self, logits: Tensor, y: Tensor) -> Tensor:
        logits = logits.detach()
        binary = self.loss_name != "CrossEntropyLoss"
        predicted = (logits[:, 0] > 0).long() if binary else logits.argmax(1)
        return (predicted == y).to(logits.dtype).mean()

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


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        choices = " or ".join(f'"{choice}"' for choice in allowed)
        raise ValueError(f"{name} must be {choices}, got {value!r}")
