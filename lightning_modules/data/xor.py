"""The exclusive or."""

import torch

from lightning_modules.data.in_memory import InMemory, Parts, Split


class XOR(InMemory):
    """The four points of XOR in one batch; train, validation and test are the same four.

    x: (0, 0), (0, 1), (1, 0), (1, 1), shape (4, 2); y: 0, 1, 1, 0, shape (4,). The order never
    changes.

    Args:
        steps_per_epoch: Times that an epoch gives the batch. An epoch costs Lightning several
            milliseconds, a step less than one.

    Raises:
        ValueError: steps_per_epoch is not positive.
    """

    def __init__(self, steps_per_epoch: int = 1) -> None:
        super().__init__(batch_size=4, seed=None)
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be positive, got {steps_per_epoch}")
        self.save_hyperparameters(logger=False)
        self.repeats = steps_per_epoch

    def load(self) -> Parts:
        """Return the four points, three times."""
        x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        part = Split(x, torch.tensor([0, 1, 1, 0]))
        return Parts(part, part, part)
