"""The convex problem: the steps are the published ones, by hand as by autograd."""

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from experiments.training.evaluations import Evaluations
from experiments.training.recording import Record
from experiments.training.reddi import Costs, Online, Point
from lightning_modules.callbacks import InStep, Trajectory

ADAM: dict[str, Any] = {"lr": 0.5, "betas": (0.0, 0.1), "eps": 1e-8}


def play(optimizer: Any, cycles: int, *callbacks: pl.Callback, **arguments: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(Online(Point, optimizer, **arguments), Costs(cycles=cycles))
    return trainer


def points(path: Trajectory) -> list[float]:
    """x before each step, from what was paid, and at the end."""
    slopes = [3.0, -1.0, -1.0] * (len(path.losses) // 3)
    (last,) = path.weights.values()
    return [loss / slope for loss, slope in zip(path.losses, slopes, strict=True)] + [float(last)]


pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on a fit of this size


@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_steps_are_the_published_ones(amsgrad: bool) -> None:
    path = Trajectory()
    play(partial(torch.optim.Adam, amsgrad=amsgrad, **ADAM), 30, path, backprop="manual")
    x, v, u, expected = 0.0, 0.0, 0.0, [0.0]
    for t in range(1, 91):
        g = 3.0 if t % 3 == 1 else -1.0
        v = 0.1 * v + 0.9 * g * g
        u = max(u, v) if amsgrad else v
        x -= 0.5 / t**0.5 * g / ((u / (1 - 0.1**t)) ** 0.5 + 1e-8)
        x = min(max(x, -1.0), 1.0)
        expected.append(x)
    assert points(path) == pytest.approx(expected, rel=1e-12, abs=1e-13)
    assert expected[-1] < -0.9 if amsgrad else expected[-1] > 0.9


def test_both_are_in_step_and_each_gradient_is_counted() -> None:
    counted = Evaluations()
    trainer = play(partial(torch.optim.Adam, **ADAM), 4, counted, backprop="both")
    (in_step,) = (c for c in trainer.callbacks if isinstance(c, InStep))  # type: ignore[attr-defined]
    assert in_step.parted is None
    module: Any = trainer.lightning_module
    assert module.audit.all_by_hand
    assert counted.curves() == {"evaluations": list(map(float, range(1, 13)))}
    again = Evaluations()
    again.load_state_dict(counted.state_dict())
    assert again.curves() == counted.curves()


def test_every_gradient_of_lbfgs_is_counted() -> None:
    counted = Evaluations()
    play(partial(torch.optim.LBFGS, max_iter=3, max_eval=9), 2, counted, backprop="manual")
    found = counted.curves()["evaluations"]
    assert len(found) == 6 and found[-1] > 6


class Places(pl.Callback):
    """Where each step starts."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        (x,) = module.parameters()
        self.seen.append(float(x))


def test_a_step_of_lbfgs_starts_where_the_last_one_ended() -> None:
    record, places = Record(), Places()
    lbfgs = partial(torch.optim.LBFGS, lr=0.01, max_iter=3)
    play(lbfgs, 2, record, places, backprop="manual")
    x = [*places.seen, *record.weights["network.0.weight"].flatten().tolist()]
    ratios, gradients = (record.curves[f"step/{name}"] for name in ("ratio", "gradient"))
    steps = [ratio * gradient for ratio, gradient in zip(ratios, gradients, strict=True)]
    assert steps == pytest.approx([abs(b - a) for a, b in pairwise(x)], rel=1e-9)
    assert gradients == [3, 1, 1, 3, 1, 1] and min(steps) > 0


def test_a_game_of_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="cycles must be positive, got 0"):
        Costs(cycles=0)
