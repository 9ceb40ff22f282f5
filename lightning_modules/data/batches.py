"""Batches of tensors that lie in memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Order:
    """The order of the samples in each epoch: a permutation drawn from (seed, epoch) alone.

    Args:
        length: Number of samples.
        seed: Seed of the shuffling, or None for the order as stored.
        rank: Index of this process.
        world_size: Number of processes that share an epoch; each gets equally many samples, and
            the up to ``world_size - 1`` that are left over sit the epoch out.
    """

    def __init__(
        self, length: int, seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        self.samples = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self.samples // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return this process's sample indices in this epoch, int64 of shape (len(self),)."""
        if self.seed is None:
            order = np.arange(self.samples)
        else:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.samples)
        shared = len(self) * self.world_size
        return torch.from_numpy(order[self.rank : shared : self.world_size].copy())


class Batches:
    """An iterable of batches, each one tensor indexed by a slice of the epoch's order.

    It does what a DataLoader does for data in memory, without collating sample by sample: for a
    batch of 64 digits 11 us instead of 190. Lightning saves and restores its position, so that a
    run that is resumed in the middle of an epoch sees the rest of that epoch and nothing twice.

    Args:
        tensors: Tensors of equal length; a batch holds the same rows of each.
        batch_size: Rows in a batch; the last one of an epoch may be smaller.
        sampler: The order of the rows. (Lightning looks for ``set_epoch`` under this name.)
        repeats: Times that an epoch passes over the data, in the same order.
    """

    # Lightning asks whatever has a sampler for this one too.
    batch_sampler = None

    def __init__(
        self, tensors: tuple[Tensor, ...], batch_size: int, sampler: Order, repeats: int = 1
    ) -> None:
        self.tensors = tensors
        self.batch_size = batch_size
        self.sampler = sampler
        self.repeats = repeats
        self._position = 0
        self._resume: dict[str, int] | None = None

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size) * self.repeats

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        # A generator: Lightning asks for the iterator before it sets the epoch, and nothing here
        # runs before the first batch is fetched.
        resume, self._resume = self._resume, None
        start = resume["position"] if resume and resume["epoch"] == self.sampler.epoch else 0
        batches = self.sampler.indices().split(self.batch_size) * self.repeats
        for position in range(start, len(batches)):
            self._position = position + 1
            rows = batches[position]
            yield tuple(tensor[rows] for tensor in self.tensors)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of its batches that were fetched."""
        return {"epoch": self.sampler.epoch, "position": self._position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the epoch of the state after the batches that were fetched."""
        self._resume = dict(state_dict)
        self._position = state_dict["position"]
