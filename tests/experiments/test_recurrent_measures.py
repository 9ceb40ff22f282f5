"""What the studies ``bptt`` and ``clipping`` measure, on cases whose answer is known."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD

from experiments.training.clipped import Clipped, angle
from experiments.training.forecast import autoregression, best_order
from experiments.training.through_time import ThroughTime, through_states, truncated
from lightning_modules import SequenceRegressor
from lightning_modules.data import Adding
from lightning_modules.networks import Recurrent


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-3, 30.0, 90.0, 179.0])
def test_angles_however_small(degrees: float) -> None:
    turned = torch.tensor([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0])
    one = torch.tensor([2.5, 0.0, 0.0]).double()
    assert float(angle(one, 0.1 * turned)) == pytest.approx(degrees, rel=1e-9)
    assert bool(angle(one, float("nan") * turned).isnan())


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on a fit of this size
def test_clipping_is_measured_once_a_step() -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        accumulate_grad_batches=2,
        gradient_clip_val=0.5,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clipped := Clipped()],
    )
    module = SequenceRegressor(lambda nn: Recurrent(nn, hidden=3), partial(SGD, lr=0.1))
    trainer.fit(module, Adding(steps=4, batch_size=5, train=20, validation=1, test=1))
    found = clipped.curves()
    assert [len(values) for values in found.values()] == [2, 2, 2]
    expected = [min(length, 0.5) for length in found["clip/before"]]
    assert found["clip/after"] == pytest.approx(expected, rel=1e-4)
    assert max(found["clip/angle"]) < 0.01
    assert Clipped().curves() == {"clip/before": [], "clip/after": [], "clip/angle": []}


def module(kind: str, backprop: str = "manual", **options: object) -> SequenceRegressor:
    torch.manual_seed(0)
    build = partial(Recurrent, kind=kind, hidden=3, **options)  # type: ignore[arg-type]
    return SequenceRegressor(build, torch.optim.Adam, backprop=backprop).double()  # type: ignore[arg-type]


def test_a_linear_network_multiplies_the_gradient_by_its_matrix() -> None:
    made = module("RNN", nonlinearity="relu")
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(p.abs() + 0.1)  # all positive: the ReLU lets everything through
    x, y = torch.rand(1, 4, 2).double(), torch.rand(1, 1).double()
    found = through_states(made, x, y)
    weight = made.network.get_parameter("recurrent.weight_hh_l0").detach()
    gradient = made.network.get_parameter("output.weight").detach()[0]
    expected = [torch.linalg.vector_norm(gradient)]
    for _ in range(4):
        gradient = gradient @ weight
        expected.insert(0, torch.linalg.vector_norm(gradient))
    torch.testing.assert_close(found, torch.stack(expected) / expected[-1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_what_is_measured_by_hand_is_measured_by_autograd(kind: str) -> None:
    x, y = torch.rand(3, 5, 2).double(), torch.rand(3, 1).double()
    manual, native = module(kind), module(kind, "autograd")
    torch.testing.assert_close(
        through_states(manual, x, y), through_states(native, x, y), rtol=1e-9, atol=1e-15
    )
    for steps in (1, 2, None):
        one, other = truncated(manual, x, y, steps), truncated(native, x, y, steps)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)
    full = truncated(manual, x, y, None)
    assert torch.equal(full, truncated(manual, x, y, 5))
    assert not torch.allclose(full, truncated(manual, x, y, 1))


def test_a_process_of_two_lags_is_found_again() -> None:
    series = [1.0, 2.0]
    for _ in range(60):
        series.append(0.3 + 1.6 * series[-1] - 0.9 * series[-2])
    windows = np.lib.stride_tricks.sliding_window_view(np.array(series), 6)
    train, rest = (windows[:40, :-1], windows[:40, -1]), (windows[40:, :-1], windows[40:, -1])
    np.testing.assert_allclose(autoregression(*train, 2)(rest[0]), rest[1], rtol=1e-8)
    one = np.mean((autoregression(*train, 1)(rest[0]) - rest[1]) ** 2)
    assert one > 1e-3
    noisy = rest[0], rest[1] + 0.0
    assert best_order(train, noisy) >= 2


def test_what_is_kept_survives_a_checkpoint() -> None:
    clipped, again = Clipped(), Clipped()
    clipped._rows = [torch.tensor([3.0, 1.0, 0.0]), torch.tensor([float("nan"), 1.0, 2.0])]
    again.load_state_dict(clipped.state_dict())
    assert again.curves()["clip/after"] == [1.0, 1.0]
    assert str(again.curves()) == str(clipped.curves())
    again.load_state_dict(Clipped().state_dict())
    assert again._rows == []
    looked, once_more = ThroughTime(), ThroughTime()
    looked._kept = {"state/start": torch.tensor([0.5, 1.0])}
    once_more.load_state_dict(looked.state_dict())
    assert once_more.curves() == {"state/start": [0.5, 1.0]}
