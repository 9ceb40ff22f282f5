"""What the studies of BatchNorm and of residual networks measure in a training: exact cases."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training.quantiles import PERCENTILES, Quantiles
from experiments.training.recording import Curves
from experiments.training.training_error import TrainingError
from lightning_modules import Classifier
from lightning_modules.data import Digits
from lightning_modules.networks import MLP

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on fits of this size


class Drifting(pl.Callback):
    """Moves the biases between the steps: the n-th step finds them at n."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Classifier, *_: object) -> None:  # type: ignore[override]
        with torch.no_grad():
            module.get_parameter("network.linear1.bias").fill_(trainer.global_step)


def fit(folder: Path, measure: Curves) -> tuple[Classifier, list[tuple[Tensor, Tensor]]]:
    """Six steps of length zero on batches in the order of the data, and these batches."""
    torch.manual_seed(0)
    module = Classifier(
        partial(MLP, hidden=(5,)), optimizer=partial(torch.optim.SGD, lr=0.0), backprop="both"
    )
    data = Digits(batch_size=100)
    data.seed = None
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[Drifting(), measure],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        max_steps=6,
        val_check_interval=2,  # what an evaluation passes through is not to be counted
    )
    trainer.fit(module, data)
    x, y = data.parts.train
    return module, [(x[i : i + 100], y[i : i + 100]) for i in range(0, 600, 100)]


def test_quantiles_of_what_each_unit_receives(tmp_path: Path) -> None:
    measure = Quantiles("activation1", every_n_steps=2)
    module, batches = fit(tmp_path, measure)
    weight = module.get_parameter("network.linear1.weight").detach()
    expected = np.stack(
        [
            np.percentile((batches[step][0] @ weight.T + step).numpy(), PERCENTILES, axis=0)
            for step in (0, 2, 4)
        ]
    )  # (looks, percentiles, units)
    found = measure.curves()
    medians = expected[:, 1]
    travel = medians.max(0) - medians.min(0)
    np.testing.assert_allclose(found["travel"], travel, rtol=1e-4)
    jumps = (abs(medians[1] - medians[0]) + abs(medians[2] - medians[1])) / 2
    np.testing.assert_allclose(found["jump"], jumps, rtol=1e-4)
    typical = int(np.argsort(travel)[2])
    for i, percent in enumerate(PERCENTILES):
        np.testing.assert_allclose(
            found[f"quantile/{percent}"], expected[:, i, typical], rtol=1e-4, atol=1e-5
        )


def test_errors_are_those_of_the_batch_before_its_step(tmp_path: Path) -> None:
    measure = TrainingError()
    module, batches = fit(tmp_path, measure)
    expected = []
    for step, (x, y) in enumerate(batches):
        with torch.no_grad():
            module.get_parameter("network.linear1.bias").fill_(step)
            expected.append(float((module(x).argmax(1) != y).double().mean()))
    assert measure.curves() == {"train/error": pytest.approx(expected)}
    assert len(set(expected)) > 1


@pytest.mark.parametrize("make", [partial(Quantiles, "activation1"), TrainingError])
def test_what_was_kept_outlives_a_kill(make: type[Curves], tmp_path: Path) -> None:
    measure = make()
    fit(tmp_path, measure)
    torch.save(measure.state_dict(), tmp_path / "state")
    again = make()
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert again.curves() == measure.curves()


def test_a_look_at_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be positive, got 0"):
        Quantiles("activation1", every_n_steps=0)
