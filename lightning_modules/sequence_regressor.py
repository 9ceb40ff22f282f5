"""A recurrent network that learns to predict numbers, by backpropagation through time."""

from collections.abc import Callable

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_modules.learner import Backprop, Learner
from lightning_modules.networks import Namespace


class SequenceRegressor(Learner):
    """Train a recurrent network on the mean squared error, if wished by truncated backpropagation.

    What is common to all modules is told in :class:`Learner`. Batches are (x, y): sequences
    (N, T, features) and targets of the shape of the network's answer.

    Truncated, the state is detached every ``truncate`` steps, counted from the end of the sequence;
    loss and forward pass stay what they are. There is one update a sequence, from the sum of what
    the pieces contribute, so clipping, schedules and accumulation work as in any other fit. (What
    Lightning once had under ``truncated_bptt_steps`` took one a piece, at weights that changed
    within the sequence.)

    Args:
        network: Builds the network from a namespace ``nn``; its ``forward(x, truncate)`` is that of
            :class:`lightning_modules.networks.Recurrent`.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer.
        backprop: "manual", "autograd" or "both".
        truncate: The steps that a gradient goes back through time, at most; None for all.

    Raises:
        ValueError: ``backprop`` is none of those names, ``truncate`` is not positive, or the
            targets do not have the shape of the answers.
        TypeError: ``network`` does not build a module.

    Example::

        SequenceRegressor(partial(Recurrent, kind="GRU"), partial(Adam, lr=0.01), truncate=20)
    """

    def __init__(
        self,
        network: Callable[[Namespace], torch.nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        backprop: Backprop = "manual",
        truncate: int | None = None,
    ) -> None:
        if truncate is not None and truncate < 1:
            raise ValueError(f"truncate must be positive or None, got {truncate}")
        super().__init__(network, optimizer, scheduler, backprop)
        self.truncate = truncate

    def build(self, nn: Namespace) -> None:
        """Make the network and the loss."""
        super().build(nn)
        self.loss: torch.nn.Module = nn.MSELoss()

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's answers to the sequences x, (N, T, features)."""
        return self.network(x, self.truncate)

    def loss_and_output(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of a batch (x, y), and the answers."""
        x, y = batch
        answers = self(x)
        if answers.shape != y.shape:
            raise ValueError(
                f"the targets must have the shape of the answers, {tuple(answers.shape)}, "
                f"got {tuple(y.shape)}"
            )
        return self.loss(answers, y), answers
