"""Digits in one batch."""

from lightning_modules.data import Digits
from lightning_modules.data.in_memory import Parts


class FullBatch(Digits):
    """The first training samples of :class:`~lightning_modules.data.Digits`, all in every batch.

    Gradient descent without noise. The order of the samples never changes.

    Args:
        samples: How many of the 1,400; the others are the validation part.
        steps_per_epoch: Times that an epoch gives the batch. An epoch costs Lightning several
            milliseconds, a step less than one.
        centred: From each pixel its mean over these samples is subtracted; without that, the mean
            is one direction of large curvature that says nothing about the classes.

    Raises:
        ValueError: steps_per_epoch is not positive, or samples do not lie in 1..1399.
    """

    def __init__(self, samples: int = 500, steps_per_epoch: int = 1, centred: bool = False) -> None:
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be positive, got {steps_per_epoch}")
        if not 1 <= samples <= 1399:
            raise ValueError(f"samples must lie in 1..1399, got {samples}")
        super().__init__(samples, validation=1400 - samples)
        self.seed = None
        self.centred = centred
        self.repeats = steps_per_epoch

    def load(self) -> Parts:
        """Return the three parts."""
        parts = super().load()
        if not self.centred:
            return parts
        mean = parts.train.x.mean(0)
        train, validation, test = (part._replace(x=part.x - mean) for part in parts)
        return Parts(train, validation, test)
