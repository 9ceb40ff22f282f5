"""The diagnosis of a training: what it says, when, and that the training does not notice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from lightning_modules import Classifier
from lightning_modules.callbacks import Trajectory
from lightning_modules.callbacks.gradient_diagnosis import GradientDiagnosis
from lightning_modules.networks import MLP

MakeTrainer = Callable[..., pl.Trainer]


class Net(pl.LightningModule):
    """A small regression with dropout and BatchNorm, which logs its loss."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)
        )
        self.lr = lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Poisoned(Net):
    """A root whose slope is infinite from the fourth batch on."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        output = self.net(x)
        residual = output - (output.detach() if batch_idx >= 3 else y)
        loss = residual.square().sum().sqrt()
        self.log("loss", loss)
        return loss


def _batches(count: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        x = torch.randn(24, 5, generator=generator)
        found.append((x, x[:, :1] * 0.7))
    return found


def _loader(batches: Iterable[Any]) -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def _fit(trainer: MakeTrainer, model: pl.LightningModule, *callbacks: Any, **arguments: Any) -> Any:
    trainer(callbacks=list(callbacks), **arguments).fit(model, _loader(_batches()))
    return model


def test_a_healthy_training_hears_nothing_and_does_not_notice(trainer: MakeTrainer) -> None:
    paths = []
    for callbacks in ([], [GradientDiagnosis(3)]):
        torch.manual_seed(0)
        path = Trajectory()
        _fit(trainer, Net(), *callbacks, path, accumulate_grad_batches=2, max_epochs=2)
        paths.append((path.losses, path.weights))
    assert paths[0][0] == paths[1][0]
    assert all(torch.equal(paths[0][1][name], w) for name, w in paths[1][1].items())
    assert sorted(callbacks[0].diagnoses) == [0, 3, 6]
    assert all(d.healthy for d in callbacks[0].diagnoses.values())


def test_an_infinite_gradient_is_traced_before_the_step(
    trainer: MakeTrainer, board: Any, tmp_path: Any
) -> None:
    logger = TensorBoardLogger(board.logdir, name=None, version="poisoned")
    callback = GradientDiagnosis(100)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"step 3: loss: sqrt: not finite backward") as told:
        _fit(trainer, Poisoned(), callback, logger=logger)
    assert len([w for w in told if "not finite backward" in str(w.message)]) == 1
    (finding,) = callback.diagnoses[3].of("not finite backward")
    assert finding.operation == "sqrt" and "where its slope is infinite" in finding.text
    # The weights were still good when it looked.
    assert not callback.diagnoses[3].of("parameter not finite")
    board.wait_for("text", "poisoned", "diagnosis/text_summary", 1)
    texts = board.get("data/plugin/text/text", run="poisoned", tag="diagnosis/text_summary")
    assert texts[0]["step"] == 3 and "not finite backward" in texts[0]["text"]


def test_a_loss_that_is_not_finite_is_traced(trainer: MakeTrainer) -> None:
    class Logarithm(Net):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return (self.net(batch[0]).relu() * (batch_idx < 2)).log().mean() * 0.1

    callback = GradientDiagnosis(100)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        trainer(callbacks=[callback]).fit(Logarithm(), _loader(_batches()))
    found = [f for d in callback.diagnoses.values() for f in d.of("not finite forward")]
    assert [f.operation for f in found] == ["log"]


def test_findings_in_a_training_by_hand_have_names_of_its_modules(trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    model = Classifier(
        partial(MLP, in_features=5, hidden=(16,), out_features=3),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        backprop="manual",
    )
    with torch.no_grad():
        model.network.get_submodule("linear1").get_parameter("bias").fill_(-100.0)
    callback = GradientDiagnosis(100)
    batches = [(x, torch.arange(24) % 3) for x, _ in _batches(2)]
    with (
        warnings.catch_warnings(),
        pytest.warns(UserWarning, match="network.activation1: relu: dead units"),
    ):
        warnings.filterwarnings("ignore", message="You defined a `validation_step`")
        trainer(callbacks=[callback], limit_val_batches=0).fit(model, _loader(batches))
    (finding,) = callback.diagnoses[0]
    assert finding.numbers["dead"] == 16


def test_bad_arguments(trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="every_n_steps must be positive, got 0"):
        GradientDiagnosis(0)
    model = Net()
    model.automatic_optimization = False
    with pytest.raises(ValueError, match="that of Net steps its optimizers itself"):
        _fit(trainer, model, GradientDiagnosis())
