"""The base of the data modules: a data set in memory and its fixed split."""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.data.batches import Batches, Order


class Split(NamedTuple):
    """Inputs and targets of one part of a data set.

    Attributes:
        x: float32, (N, ...), which the trainer casts to its precision batch by batch; or int64,
            such as tokens, which it leaves as they are.
        y: int64 class indices, (N,); or what else is to be predicted, such as numbers, (N, ...).
    """

    x: Tensor
    y: Tensor


class Parts(NamedTuple):
    """A data set cut in three."""

    train: Split
    validation: Split
    test: Split


class InMemory(pl.LightningDataModule):
    """Three parts of a data set in memory: train, validation, test.

    A data set is a subclass with one method, :meth:`load`. Batches are pairs ``(x, y)``. The
    order of the training batches depends on the seed and the epoch only.

    Args:
        batch_size: Training samples in a batch. Evaluation takes its part in one batch of up to
            1,024.
        seed: Seed of the batch order, or None for the order as stored; the split does not depend
            on it.

    Raises:
        ValueError: The batch size is not positive or the seed is negative.
    """

    evaluation_batch_size = 1024

    def __init__(self, batch_size: int, seed: int | None) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        if seed is not None and seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = 1
        self._parts: Parts | None = None

    @abstractmethod
    def load(self) -> Parts:
        """Return the three parts."""

    @property
    def parts(self) -> Parts:
        """The three parts, loaded when they are first asked for."""
        if self._parts is None:
            self._parts = self.load()
        return self._parts

    def setup(self, stage: str | None = None) -> None:
        """Load the data, whatever the stage."""
        _ = self.parts

    def train_dataloader(self) -> Batches:
        """Return the training batches, shuffled; each process of a group gets its share."""
        rank, world_size = 0, 1
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        train = self.parts.train
        order = Order(len(train.x), self.seed, rank, world_size)
        return Batches(train, self.batch_size, order, self.repeats)

    def val_dataloader(self) -> Batches:
        """Return the validation batches, whole for every process: their mean is then exact."""
        return self._in_order(self.parts.validation)

    def test_dataloader(self) -> Batches:
        """Return the test batches, whole for every process."""
        return self._in_order(self.parts.test)

    def predict_dataloader(self) -> Batches:
        """Return the test batches."""
        return self._in_order(self.parts.test)

    def _in_order(self, part: Split) -> Batches:
        return Batches(part, self.evaluation_batch_size, Order(len(part.x)))


def split(x: np.ndarray, y: np.ndarray, *, validation: int, test: int, standardize: bool) -> Parts:
    """Split a data set by a permutation that never changes.

    The permutation is ``numpy.random.RandomState(0).permutation(N)``, a stream that NumPy keeps
    fixed across versions: the first ``test`` samples are the test part, the last ``validation``
    the validation part, those between the training part. The test part is thus the same for
    every ``validation``, and the one of scikit-learn's
    ``train_test_split(x, y, test_size=test, random_state=0)``.

    Args:
        x: Inputs scaled to 0..1, (N, ...).
        y: Class indices, (N,).
        validation: Samples of the validation part.
        test: Samples of the test part.
        standardize: Subtract the mean of the training part and divide by its standard deviation,
            one number each over all pixels (a pixel that is always 0 has no deviation of its own).

    Raises:
        ValueError: Nothing is left to validate or to train on.
    """
    if not 1 <= validation < len(x) - test:
        raise ValueError(
            f"validation must lie in 1..{len(x) - test - 1} (of {len(x)} samples {test} are the "
            f"test part), got {validation}"
        )
    order = np.random.RandomState(0).permutation(len(x))
    train = order[test : len(x) - validation]
    if standardize:
        x = (x - x[train].mean()) / x[train].std()
    inputs = torch.from_numpy(x.astype(np.float32))
    targets = torch.from_numpy(y.astype(np.int64))

    def part(rows: np.ndarray) -> Split:
        return Split(inputs[torch.from_numpy(rows)], targets[torch.from_numpy(rows)])

    return Parts(part(train), part(order[len(x) - validation :]), part(order[:test]))
