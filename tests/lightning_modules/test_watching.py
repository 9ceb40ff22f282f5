"""Activations, updates and the flow of gradients, of a module from elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import watching
from lightning_modules.callbacks import (
    Activations,
    GradientFlow,
    GradientHistograms,
    GradientNorms,
    UpdateRatios,
)
from lightning_modules.callbacks.activations import dead

MakeTrainer = Callable[..., pl.Trainer]
LEARNING_RATE = 0.01


class Net(pl.LightningModule):
    """Ten units of a ReLU, four of them dead; a tanh, half of it saturated; a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(3, 10)
        self.relu = torch.nn.ReLU()
        self.narrow = torch.nn.Linear(10, 4)
        self.tanh = torch.nn.Tanh()
        self.frozen = torch.nn.Linear(4, 4).requires_grad_(False)
        with torch.no_grad():
            self.wide.bias.copy_(torch.tensor([-100.0] * 4 + [100.0] * 6))
            self.narrow.weight.zero_()
            self.narrow.bias.copy_(torch.tensor([9.0, -9.0, 0.1, 0.1]))
        self.seen: dict[str, list[Any]] = {"relu": [], "tanh": [], "weights": []}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen["weights"].append([p.detach().clone() for p in self.narrow.parameters()])
        y = self.relu(self.wide(batch))
        self.seen["relu"].append(y.detach())
        z = self.tanh(self.narrow(y))
        self.seen["tanh"].append(z.detach())
        return self.frozen(z).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)


def batches() -> Any:
    data: Any = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    return DataLoader(data, batch_size=4)


@pytest.fixture
def logger(board: Any, request: pytest.FixtureRequest) -> TensorBoardLogger:
    return TensorBoardLogger(board.logdir, name=None, version=request.node.name)


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_what_a_training_shows(board: Any, trainer: MakeTrainer, logger: TensorBoardLogger) -> None:
    net = Net()
    csv = CSVLogger(board.logdir, name=None, version="watching_csv")
    flow = GradientFlow(1, every_n_looks=4)
    trainer(
        logger=[logger, csv],
        max_epochs=2,
        callbacks=[Activations(4), UpdateRatios(3), GradientNorms(), flow],
    ).fit(net, batches())
    run = str(logger.version)

    shown = board.histograms(run, "activations/relu", 3)
    assert list(shown) == [0, 4, 8]
    for step, buckets in shown.items():
        y = net.seen["relu"][step].flatten()
        assert buckets[:, 2].sum() == len(y)
        assert buckets[-1, 1] == pytest.approx(float(y.max()), rel=1e-6)
    assert board.scalars(run, "dead_units/relu", 3) == pytest.approx({0: 0.4, 4: 0.4, 8: 0.4})
    flat = {at: float((net.seen["tanh"][at].abs() > 0.975).float().mean()) for at in (0, 4, 8)}
    assert flat[0] == 0.5
    assert board.scalars(run, "saturated_units/tanh", 3) == pytest.approx(flat)
    means = board.scalars(run, "dead_units_of_all/mean", 3)
    first = (
        0.4 + float((net.seen["tanh"][0] == net.seen["tanh"][0][:1]).all(0).float().mean())
    ) / 2
    assert means[0] == pytest.approx(first)
    assert "saturated_units/relu" not in board.tags("scalars", run)
    assert not net.relu._forward_hooks and not net.tanh._forward_hooks

    ratios = board.scalars(run, "update_to_weight/narrow", 4)
    assert list(ratios) == [0, 3, 6, 9]
    for step, ratio in ratios.items():
        before, after = (
            torch.cat([p.flatten() for p in net.seen["weights"][at]]) for at in (step, step + 1)
        )
        assert ratio == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    tags = board.tags("scalars", run)
    assert {"update_to_weight_of_all/largest", "update_to_weight_of_all/smallest"} <= tags
    assert "update_to_weight/frozen" not in tags

    assert len(board.scalars(run, "global_gradient_norm/before_clipping", 12)) == 12
    assert set(board.get("data/plugin/images/tags")[run]) == {
        "gradient_flow/by_depth",
        "gradient_flow/by_depth_and_step",
    }
    assert flow.layers == ("wide", "narrow") and flow.steps == list(range(12))
    head = (board.logdir / "watching_csv" / "metrics.csv").read_text().splitlines()[0]
    assert "update_to_weight/narrow" in head and "dead_units/relu" in head


def test_what_was_logged_before_a_failure_is_there(
    board: Any, trainer: MakeTrainer, logger: TensorBoardLogger
) -> None:
    class Failing(Net):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            if batch_idx == 2:
                raise RuntimeError("planted")
            return super().training_step(batch, batch_idx)

    net = Failing()
    callbacks = [Activations(1), UpdateRatios(1), GradientNorms()]
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="planted"):
        trainer(logger=logger, callbacks=callbacks).fit(net, batches())
    logger.experiment.flush()
    for tag in ("dead_units/relu", "update_to_weight/narrow", "gradient_norm/before_clipping/wide"):
        assert list(board.scalars(str(logger.version), tag, 2)) == [0, 1]
    assert not net.relu._forward_hooks


class Steps(pl.Callback):
    """The steps at which it watched."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        self.seen.append(trainer.global_step)


def test_the_benchmark_lets_each_watch_in_its_turns_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TURN", 3)
    first, second, naive = Steps(), Steps(), watching.Naive()
    turns = watching.measure(5, (7,), 2, [[first, GradientHistograms(3)], [second, naive]])
    assert len(turns) == 9 and min(min(turn) for turn in turns) > 0
    # the turns are: warm-up, nobody, first, nobody, second, nobody, first, nobody, second, nobody
    assert first.seen == [6, 7, 8, 18, 19, 20]
    assert second.seen == [12, 13, 14, 24, 25, 26]


def test_the_benchmark_compares_a_turn_with_the_ones_beside_it() -> None:
    walls = [10.0, 11.0, 10.0, 18.0, 20.0, 22.0, 20.0, 20.0, 20.0]
    turns = [watching.Turn(wall, 2 * wall) for wall in walls]
    for watcher, expected in ((0, [0.1, 0.1]), (1, [0.2, 0.0])):
        found = watching.costs(turns, watcher, 2)
        assert [cost.wall for cost in found] == pytest.approx(expected)
        assert [cost.cpu for cost in found] == pytest.approx(expected)


def flow_of(layers: int, steps: int, sizes: Callable[[int, int], float]) -> GradientFlow:
    flow = GradientFlow(1, every_n_looks=10**9)
    for step in range(steps):
        gradients = {f"block{i}.weight": torch.full((3, 2), sizes(i, step)) for i in range(layers)}
        flow.log_gradients([], gradients, "before_clipping", step)
    return flow


@pytest.mark.parametrize("layers", [1, 7, 100])
def test_figures_stay_readable_at_any_depth(layers: int) -> None:
    flow = flow_of(layers, 5, lambda i, step: 10.0 ** (i - layers))
    for figure in (flow.by_depth(), flow.heatmap()):
        axes = figure.axes[0]
        names = [text.get_text() for text in axes.get_yticklabels()]
        assert 1 <= len(names) <= 34 and names[0] == "block0"
        assert axes.get_xlabel() and axes.get_ylabel() == "layer" and axes.get_title()
        assert axes.yaxis_inverted(), "the input is at the top"
        figure.canvas.draw()
    assert flow.means[0][0] == pytest.approx(10.0**-layers)


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf"), 1e-38])
def test_figures_bear_gradients_that_vanish_or_explode(size: float) -> None:
    flow = flow_of(3, 2, lambda i, step: size if i == 1 else 1.0)
    for figure in (flow.by_depth(), flow.heatmap()):
        figure.canvas.draw()
        assert ("zero" in figure.axes[0].get_title()) == (size != 1e-38)
    alone = flow_of(1, 2, lambda i, step: size)
    for figure in (alone.by_depth(), alone.heatmap()):
        figure.canvas.draw()


def test_the_flow_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    flow, again = flow_of(3, 4, lambda i, step: 1.0 + i + step), GradientFlow()
    torch.save(flow.state_dict(), tmp_path / "state")
    again.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert (again.layers, again.steps, again.means) == (flow.layers, flow.steps, flow.means)


def test_dead_units_of_layers_convolutions_and_sequences() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(8, 10, generator=generator)
    y[:, :3] = 0
    assert dead(y) == pytest.approx(0.3)
    image = torch.rand(8, 4, 5, 5, generator=generator)
    image[:, 0] = 2.5
    assert dead(image) == pytest.approx(0.25)
    words = torch.rand(8, 6, 5, generator=generator)
    words[..., 2] = -1
    assert dead(words) == pytest.approx(0.2)
    assert dead(torch.zeros(1, 4)) == dead(torch.zeros(4)) == 0
    np.testing.assert_equal(dead(torch.zeros(2, 4)), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Activations(0), "every_n_steps must be positive, got 0"),
        (lambda: Activations(max_values=0), "max_values must be positive, got 0"),
        (lambda: Activations(classes=()), "classes must name at least one"),
        (lambda: UpdateRatios(-3), "every_n_steps must be positive, got -3"),
        (lambda: GradientFlow(every_n_looks=0), "every_n_looks must be positive, got 0"),
    ],
)
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
