"""A classifier that is trained by hand, by autograd, or by both in step."""

from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_modules.learner import Backprop, Learner, one_of
from lightning_modules.networks import Namespace

Loss = Literal["CrossEntropyLoss", "BCEWithLogitsLoss", "MSELoss"]


class Classifier(Learner):
    """Train a network to classify; what is common to all modules is told in :class:`Learner`.

    The network gives logits: (N, classes) with CrossEntropyLoss, (N, 1) with the two binary
    losses. Batches are (x, y); targets y are int64 class indices, (N,).

    Args:
        network: Builds the network from a namespace ``nn``.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer.
        backprop: "manual", "autograd" or "both".
        loss: "CrossEntropyLoss"; for two classes and one logit also "BCEWithLogitsLoss", or
            "MSELoss", the squared error of ``sigmoid(logit)``.

    Raises:
        ValueError: ``backprop`` or ``loss`` is none of those names, or the logits do not have
            the shape that the loss needs.
        TypeError: ``network`` does not build a module.

    Example::

        Classifier(partial(MLP, hidden=(32,)), optimizer=partial(torch.optim.SGD, lr=0.1))
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    def __init__(
        self,
        network: Callable[[Namespace], torch.nn.Module],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        backprop: Backprop = "manual",
        loss: Loss = "CrossEntropyLoss",
    ) -> None:
        super().__init__(network, optimizer, scheduler, backprop)

    def build(self, nn: Namespace) -> None:
        """Make the network and the loss."""
        self.loss_name: Loss = self.hparams["loss"]
        one_of("loss", self.loss_name, get_args(Loss))
        super().build(nn)
        self.loss: torch.nn.Module = getattr(nn, self.loss_name)()

    def loss_and_output(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch (x, y), and the logits."""
        x, y = batch
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

    def score(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the accuracy of the logits, (N, classes) or (N, 1)."""
        binary = self.loss_name != "CrossEntropyLoss"
        predicted = (output[:, 0] > 0).long() if binary else output.argmax(1)
        return {"accuracy": (predicted == batch[1]).to(output.dtype).mean()}
