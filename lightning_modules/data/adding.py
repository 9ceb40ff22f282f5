"""The adding problem: what was said long ago decides the answer."""

import numpy as np
import torch

from lightning_modules.data.in_memory import InMemory, Parts, Split


class Adding(InMemory):
    """Sequences of random numbers, two of them marked; the answer is the sum of the two.

    x: (N, steps, 2), at each step a number drawn from [0, 1) and a mark, 0 or 1. y: (N, 1). Both
    marks lie in the first half, at any two different places, so that they must be remembered for
    half of the sequence at least. Who always answers 1 has a mean squared error of 1/6, the
    variance of the sum.

    Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", experiment 4; there the numbers lie
    in [-1, 1], the sum is scaled, the first mark lies within ten steps, and lengths vary.

    The sequences are always the same ones for a length: they are drawn by
    ``numpy.random.RandomState(steps)``, a stream that NumPy keeps fixed across versions.

    Args:
        steps: Length of a sequence, 4 or more.
        batch_size: Training sequences in a batch.
        seed: Seed of the batch order.
        train: Training sequences.
        validation: Sequences of the validation part.
        test: Sequences of the test part.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        steps: int = 20,
        batch_size: int = 32,
        seed: int = 0,
        train: int = 6400,
        validation: int = 500,
        test: int = 1000,
    ) -> None:
        super().__init__(batch_size, seed)
        if steps < 4:
            raise ValueError(f"steps must be 4 or more, got {steps}")
        if min(train, validation, test) < 1:
            raise ValueError(
                f"train, validation and test must be positive, got {train}, {validation} and {test}"
            )
        self.save_hyperparameters(logger=False)
        self.steps = steps
        self.sizes = train, validation, test

    def load(self) -> Parts:
        """Draw the three parts."""
        stream = np.random.RandomState(self.steps)
        return Parts(*(self._draw(stream, size) for size in self.sizes))

    def _draw(self, stream: np.random.RandomState, size: int) -> Split:
        numbers = stream.random_sample((size, self.steps)).astype(np.float32)
        places = stream.random_sample((size, self.steps // 2)).argsort(1)[:, :2]
        marks = np.zeros_like(numbers)
        np.put_along_axis(marks, places, 1, axis=1)
        answers = (numbers * marks).sum(1, keepdims=True)
        x = np.stack([numbers, marks], axis=-1)
        return Split(torch.from_numpy(x), torch.from_numpy(answers))
