"""A language model that is trained by hand, by autograd, or by both in step."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from lightning_modules.learner import Learner
from lightning_modules.networks import Namespace


class LanguageModel(Learner):
    """Train a network to predict the next token; see :class:`Learner` for what is common to all.

    The network gives logits (N, T, V) of tokens (N, T). Batches are (x, y), int64 (N, T), where y
    holds the tokens that follow those of x. The loss is the cross-entropy in nats a token, the mean
    over all N T of them; ``bits`` is the same in bits a token.

    Args:
        network: Builds the network from a namespace ``nn``.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer.
        backprop: "manual", "autograd" or "both".

    Raises:
        ValueError: ``backprop`` is none of those names.
        TypeError: ``network`` does not build a module.

    Example::

        LanguageModel(partial(GPT, tokens=97), optimizer=partial(torch.optim.Adam, lr=0.003))
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits")

    def build(self, nn: Namespace) -> None:
        """Make the network and the loss."""
        super().build(nn)
        self.loss: torch.nn.Module = nn.CrossEntropyLoss()

    def loss_and_output(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch (x, y), and the logits."""
        x, y = batch
        logits = self(x)
        return self.loss(logits.flatten(0, 1), y.flatten()), logits

    def score(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy of the logits, (N, T, V), in bits a token."""
        nats = torch.nn.functional.cross_entropy(output.flatten(0, 1), batch[1].flatten())
        return {"bits": nats / math.log(2)}
