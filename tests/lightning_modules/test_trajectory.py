import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules.callbacks import Trajectory
from lightning_modules.data.batches import Batches, Order

MakeTrainer = Callable[..., pl.Trainer]


class Slope(pl.LightningModule):
    """The loss is the batch times the weight: 3, 2, 1, ... with a weight that never moves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.0))

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Any:
        return self.weight * batch[0].sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Skipping(Slope):
    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Any:
        return None if batch_idx == 1 else {"loss": super().training_step(batch, batch_idx)}


class Manual(Slope):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        self.optimizers().step()  # type: ignore[union-attr]
        return {"loss": loss}


def batches() -> Batches:
    return Batches((torch.tensor([1.0, 2.0, 4.0, 0.1, 7.0]),), 1, Order(5))


LOSSES = [3.0, 6.0, 12.0, 0.3, 21.0]


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("module", [Slope, Manual])
def test_losses_are_those_of_the_batches(
    trainer: MakeTrainer, module: type[Slope], accumulated: int
) -> None:
    if module is Manual and accumulated > 1:
        pytest.skip("Lightning accumulates only what it optimizes itself")
    path = Trajectory()
    trainer(callbacks=[path], accumulate_grad_batches=accumulated).fit(module(), batches())
    assert path.losses == pytest.approx(LOSSES)
    assert all(type(loss) is float for loss in path.losses)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_without_a_loss_has_its_place(trainer: MakeTrainer) -> None:
    path = Trajectory()
    trainer(callbacks=[path]).fit(Skipping(), batches())
    assert path.losses == pytest.approx([3.0, math.nan, 12.0, 0.3, 21.0], nan_ok=True)


def test_float64_losses_keep_their_digits(trainer: MakeTrainer) -> None:
    path, module = Trajectory(), Slope()
    module.weight.data.fill_(1 / 3)
    trainer(callbacks=[path], precision="64-true").fit(module, batches())
    weight = module.weight.item()
    assert path.losses[:3] == [weight, 2 * weight, 4 * weight]
    assert path.weights["weight"].dtype == torch.float64


def test_weights_are_a_copy_from_the_end(trainer: MakeTrainer) -> None:
    path, module = Trajectory(), Slope()
    assert path.weights == {}
    trainer(callbacks=[path]).fit(module, batches())
    module.weight.data.zero_()
    assert path.weights == {"weight": torch.tensor(3.0)}
    assert not path.weights["weight"].requires_grad


def test_its_state_is_plain(trainer: MakeTrainer, tmp_path: Path) -> None:
    path, fit = Trajectory(), trainer(callbacks=[first := Trajectory()])
    fit.fit(Slope(), batches())
    fit.save_checkpoint(tmp_path / "saved.ckpt")
    state = torch.load(tmp_path / "saved.ckpt", weights_only=True)["callbacks"]["Trajectory"]
    path.load_state_dict(state)
    assert path.losses == first.losses
