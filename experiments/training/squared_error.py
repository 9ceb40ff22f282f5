"""A network trained on classes by the squared error."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from lightning_modules import Learner
from lightning_modules.networks import Namespace


class SquaredError(Learner):
    """Half the squared distance of the outputs from the class's unit vector, mean over samples.

    ``L = 1/(2N) sum_n |f(x_n) - e_(y_n)|^2``, as Cohen et al. (2021) train: for a linear ``f``
    a quadratic in the weights, with the Hessian ``1/N sum_n x_n x_n^T`` for each output.

    Batches are (x, y); targets y are int64 class indices, (N,), outputs (N, classes).

    Args:
        network: Builds the network from a namespace ``nn``.
        optimizer: Builds the optimizer from the parameters.
        scheduler: Builds the learning rate schedule from the optimizer.
        backprop: "manual", "autograd" or "both".
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    def build(self, nn: Namespace) -> None:
        """Make the network and the loss."""
        super().build(nn)
        self.loss = nn.MSELoss()

    def loss_and_output(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch (x, y), a scalar, and the outputs, (N, classes)."""
        x, y = batch
        outputs = self(x)
        targets = outputs.new_zeros(outputs.shape).scatter_(1, y.unsqueeze(1), 1.0)
        # MSELoss is a mean over the outputs, too.
        return self.loss(outputs, targets) * (outputs.shape[1] / 2), outputs

    def score(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> Mapping[str, Tensor]:
        """Return the accuracy: how often the largest output is the class's."""
        return {"accuracy": (output.argmax(1) == batch[1]).to(output.dtype).mean()}
