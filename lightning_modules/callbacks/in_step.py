"""A training by hand and one by autograd, in step."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

import manual_bp
from lightning_modules.callbacks.random_state import random_state, set_random_state
from lightning_modules.comparison import Comparison, Parting


class InStep(pl.Callback):
    """Train a twin of the module beside it, with the other kind of gradients, and compare.

    The twin starts from the same weights, takes the same batches with the same random numbers, and
    has an optimizer of its own; only its gradients come from elsewhere. After every step the
    relative error of each layer's gradient and of its weights is taken down, and the first layer
    and step where the two part beyond rounding is named: see :attr:`comparison`. A training near
    instability amplifies rounding until two correct ones part; so every n-th step the twin also
    computes its gradient at the module's own weights, where nothing but rounding may differ.

    Any LightningModule with automatic optimization will do. A module that offers ``counterpart()``
    (those of this project do) says itself what its twin is; the twin of another is a copy whose
    training step runs under ``manual_bp.by_hand()``.

    Tags are ``manual_against_autograd/loss``, ``.../gradients`` and ``.../weights`` (the largest of
    all layers) and ``manual_against_autograd_gradient/<layer>``. The twin is part of the
    checkpoints, so a resumed fit goes on comparing.

    Args:
        every_n_steps: Every n-th step is logged, and compared at the same weights too; the two
            trainings are compared at every step.
        limit: The largest relative error that passes for rounding; None takes it from the
            precision (float64: 1e-9).

    Raises:
        ValueError: every_n_steps is not positive; or, when the fit starts, the module steps its
            optimizers itself, or trains in several processes.

    Attributes:
        comparison: What was found; None before the fit.
        twin: The twin; None before the fit.
        losses: The twin's loss at each batch.
    """

    def __init__(self, every_n_steps: int = 50, limit: float | None = None) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be positive, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.limit = limit
        self.comparison: Comparison | None = None
        self.twin: pl.LightningModule | None = None
        self._optimizer: Any = None
        self._context: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._names: list[str] = []
        self._losses: list[Tensor] = []
        self._step = 0
        self._random_state: tuple[Any, ...] = ()
        self._settings: list[dict[str, Any]] = []
        self._saved: dict[str, Any] = {}
        self._before: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    @property
    def losses(self) -> list[float]:
        """The twin's loss at each training batch so far."""
        return torch.stack(self._losses).tolist() if self._losses else []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what cannot be trained in step."""
        if not pl_module.automatic_optimization:
            raise ValueError(
                "InStep needs automatic optimization: "
                f"{type(pl_module).__name__} steps its optimizers itself"
            )
        if trainer.world_size > 1:
            raise ValueError(
                f"InStep trains in one process, got a trainer with {trainer.world_size}"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the twin, or go on with the one of the checkpoint."""
        make = getattr(pl_module, "counterpart", None)
        twin: Any = make() if make else copy.deepcopy(pl_module)
        self._context = nullcontext if make else manual_bp.by_hand
        twin = trainer.precision_plugin.convert_module(twin).to(pl_module.device)
        twin.load_state_dict(pl_module.state_dict())
        twin.train()
        twin.trainer = trainer
        twin.log = twin.log_dict = _silent  # its figures would take the place of the module's own
        self.twin = twin
        self._optimizer = _optimizer(twin.configure_optimizers())
        self._names, self._losses, self.comparison = [], [], None
        if self._saved:
            twin.load_state_dict(self._saved["twin"])
            self._optimizer.load_state_dict(self._saved["optimizer"])
            # A checkpoint is loaded to the CPU; what comes next lies where the module is.
            self._losses = list(self._saved["losses"].to(pl_module.device).unbind())
            if self._saved["names"]:
                self._begin(self._saved["names"])
                assert self.comparison is not None
                self.comparison.load_state_dict(self._saved["comparison"])
            self._saved = {}
        self._optimizer.zero_grad()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the random numbers that the module is about to draw."""
        self._step = trainer.global_step
        self._random_state = random_state(pl_module.device)
        self._before, self._gradients = {}, {}
        if self._step % self.every_n_steps == 0 and _share(trainer) == 1:
            self._before = {name: x.clone() for name, x in pl_module.state_dict().items()}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take over the learning rate and whatever else a schedule may have changed."""
        if self._before and not self._gradients:
            self._gradients = {n: _gradient(p).clone() for n, p in pl_module.named_parameters()}
        self._settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Let the twin take the same batch, and the step if the module took one; compare."""
        after = random_state(pl_module.device)
        set_random_state(pl_module.device, self._random_state)
        stepped = trainer.global_step > self._step
        loss = self._advance(trainer, batch, batch_idx, stepped)
        self._losses.append(loss.double())
        if stepped:
            self._compare(pl_module, outputs["loss"].detach(), loss / _share(trainer))
        if self._gradients:
            set_random_state(pl_module.device, self._random_state)
            self._probe(trainer, batch, batch_idx)
        set_random_state(pl_module.device, after)
        if stepped and self._step % self.every_n_steps == 0 and self.comparison is not None:
            metrics = self.comparison.flush()
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=self._step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fetch the last errors."""
        self.finish()

    def finish(self) -> None:
        """Bring :attr:`comparison` up to date."""
        if self.comparison is not None:
            self.comparison.flush()

    @property
    def parted(self) -> Parting | None:
        """Where the two part for the first time; None as long as they agree."""
        return self.comparison.parted if self.comparison is not None else None

    def state_dict(self) -> dict[str, Any]:
        """Return the twin, its optimizer and what was found."""
        if self.twin is None:
            return {}
        return {
            "twin": self.twin.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "names": list(self._names),
            "comparison": self.comparison.state_dict() if self.comparison is not None else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until the fit starts."""
        self._saved = state_dict

    def _advance(self, trainer: pl.Trainer, batch: Any, batch_idx: int, stepped: bool) -> Tensor:
        """One batch of the twin: forward and backward, and the step where one is due."""
        twin = self.twin
        assert twin is not None
        losses: list[Tensor] = []

        def closure() -> Tensor:  # L-BFGS calls it several times in a step
            if batch_idx % trainer.accumulate_grad_batches == 0:
                self._optimizer.zero_grad()
            loss = self._loss(trainer, batch, batch_idx)
            losses.append(loss.detach())
            if not self._names:
                self._names = _backward(twin, loss)
            else:
                loss.backward()
            if stepped:
                twin.configure_gradient_clipping(
                    self._optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
                )
            return loss

        if stepped:
            for group, settings in zip(self._optimizer.param_groups, self._settings, strict=True):
                group.update(settings)
            self._optimizer.step(closure)
        else:
            closure()
        return losses[-1] * _share(trainer)  # the one that Lightning returns, too

    def _loss(self, trainer: pl.Trainer, batch: Any, batch_idx: int) -> Tensor:
        assert self.twin is not None
        with trainer.precision_plugin.forward_context(), self._context():
            output: Any = self.twin.training_step(batch, batch_idx)
            loss: Tensor = output["loss"] if isinstance(output, dict) else output
            return loss / _share(trainer)

    def _probe(self, trainer: pl.Trainer, batch: Any, batch_idx: int) -> None:
        """Let the twin differentiate at the module's weights, and forget it again."""
        assert self.comparison is not None and self.twin is not None
        own = {name: x.clone() for name, x in self.twin.state_dict().items()}
        self.twin.load_state_dict(self._before)
        self._optimizer.zero_grad()
        self._loss(trainer, batch, batch_idx).backward()
        named = dict(self.twin.named_parameters())
        theirs = [_gradient(named[name]) for name in self._names]
        ours = [self._gradients[name] for name in self._names]
        self.comparison.probe(self._step, ours, theirs)
        self.twin.load_state_dict(own)

    def _begin(self, names: list[str]) -> None:
        assert self.twin is not None
        self._names = names
        dtype = dict(self.twin.named_parameters())[names[0]].dtype
        self.comparison = Comparison(names, dtype, self.limit)

    def _compare(self, pl_module: pl.LightningModule, ours: Tensor, theirs: Tensor) -> None:
        if self.comparison is None:
            self._begin(self._names)
        assert self.comparison is not None and self.twin is not None
        one, other = dict(pl_module.named_parameters()), dict(self.twin.named_parameters())
        pairs = [(one[name], other[name]) for name in self._names]
        self.comparison.add(
            self._step,
            (ours, theirs),
            ([_gradient(p) for p, _ in pairs], [_gradient(q) for _, q in pairs]),
            ([p.detach() for p, _ in pairs], [q.detach() for _, q in pairs]),
        )


def _optimizer(configured: Any) -> torch.optim.Optimizer:
    """The one optimizer out of what ``configure_optimizers`` returns."""
    while not isinstance(configured, torch.optim.Optimizer):
        configured = configured["optimizer"] if isinstance(configured, dict) else configured[0]
    return configured


def _backward(twin: pl.LightningModule, loss: Tensor) -> list[str]:
    """Propagate back; return the parameters' names in the order in which they were reached."""
    reached: list[str] = []
    handles = [
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: reached.append(name))
        for name, parameter in twin.named_parameters()
        if parameter.requires_grad
    ]
    loss.backward()
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(reached))


def _gradient(parameter: Tensor) -> Tensor:
    """The gradient, zeros where a step left it out."""
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()


def _share(trainer: pl.Trainer) -> int:
    """What Lightning divides each loss by, when gradients are accumulated over several batches."""
    return trainer.accumulate_grad_batches


def _silent(*args: Any, **kwargs: Any) -> None:
    """Log nothing."""
