"""A few handwritten digits, some of them with a wrong label."""

import numpy as np
import torch
from torch import Tensor

from lightning_modules.data.digits import Digits
from lightning_modules.data.in_memory import Parts, Split


class NoisyDigits(Digits):
    """:class:`Digits` with a small training part that has wrong labels, to overfit on.

    ``samples`` images are drawn from the training part; ``round(wrong * samples)`` of them, the
    first ones of the new part, get one of the nine other labels at random. The validation and the
    test part stay as they are.

    Args:
        samples: Images of the training part that are kept.
        wrong: Share of them whose label is wrong, 0 to 1.
        batch_size: Training samples in a batch.
        seed: Seed of the images, of their wrong labels and of the batch order.
        validation: Samples of the validation part.

    Raises:
        ValueError: An argument is out of range.
        ModuleNotFoundError: scikit-learn is not installed; the message names the command.
    """

    def __init__(
        self,
        samples: int = 200,
        wrong: float = 0.2,
        batch_size: int = 50,
        seed: int = 0,
        validation: int = 400,
    ) -> None:
        super().__init__(batch_size, seed, validation=validation)
        self.save_hyperparameters(logger=False)
        if not 0 <= wrong <= 1:
            raise ValueError(f"wrong must lie in 0..1, got {wrong}")
        self.samples = samples
        self.wrong = wrong

    @property
    def mislabelled(self) -> Tensor:
        """Which samples of the training part have a wrong label, bool (samples,)."""
        return torch.arange(self.samples) < round(self.wrong * self.samples)

    def load(self) -> Parts:
        """Return the three parts."""
        parts = super().load()
        x, y = parts.train
        if not 1 <= self.samples <= len(x):
            raise ValueError(f"samples must lie in 1..{len(x)}, got {self.samples}")
        # The order of the batches draws from (seed, epoch): a third number keeps them apart.
        draw = np.random.default_rng((self.seed or 0, 0, 1))
        rows = torch.from_numpy(draw.permutation(len(x))[: self.samples])
        others = torch.from_numpy(draw.integers(1, 10, self.samples))
        labels = torch.where(self.mislabelled, (y[rows] + others) % 10, y[rows])
        return parts._replace(train=Split(x[rows], labels))
