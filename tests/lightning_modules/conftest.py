import json
import logging
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tensorboard import program

HERE = Path(__file__).parent

# What the libraries say about themselves, and no user can change.
THEIR_OWN = [
    # lightning 2.6 asks torch.utils._pytree in a form that torch 2.13 deprecates
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated",
    # runs of a few steps log as they should; the trainer only finds its default of 50 large
    "ignore:The number of training batches .* is smaller than the logging interval",
    # lightning 2.6 calls a method that jsonargparse 4.53 deprecates
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning",
    # a copy of html5lib inside tensorboard 2.21
    "ignore:html5lib's sanitizer is deprecated:DeprecationWarning",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for rule in THEIR_OWN:
                item.add_marker(pytest.mark.filterwarnings(rule))


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    pl.seed_everything(0, verbose=False)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Make a quiet trainer on the CPU that writes under tmp_path."""

    def make(**arguments: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
        }
        return pl.Trainer(**(defaults | arguments))

    return make


class Board:
    """A real TensorBoard on loopback, asked over HTTP as its own page asks it."""

    def __init__(self, logdir: Path) -> None:
        self.logdir = logdir
        server = program.TensorBoard()
        options = ["--host", "127.0.0.1", "--port", "0"]
        options += ["--load_fast", "false", "--reload_interval", "1"]
        server.configure(argv=["tensorboard", "--logdir", str(logdir), *options])
        self.url = server.launch()

    def get(self, route: str, **query: str) -> Any:
        url = f"{self.url}{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return json.load(response)

    def tags(self, plugin: str, run: str) -> set[str]:
        return set(self.get(f"data/plugin/{plugin}/tags").get(run, {}))

    def wait_for(self, plugin: str, run: str, tag: str, steps: int) -> list[Any]:
        """Return the points of a tag once there are as many as expected."""
        points: list[Any] = []
        for _ in range(600):
            if tag in self.tags(plugin, run):
                points = self.get(f"data/plugin/{plugin}/{plugin}", run=run, tag=tag)
                if len(points) >= steps:
                    return points
            time.sleep(0.1)
        raise AssertionError(f"{run} {tag}: {len(points)} of {steps} points after a minute")

    def scalars(self, run: str, tag: str, steps: int) -> dict[int, float]:
        points = self.wait_for("scalars", run, tag, steps)
        assert len(points) == len({step for _, step, _ in points}), "a step was logged twice"
        return {step: math.nan if value is None else float(value) for _, step, value in points}

    def histograms(self, run: str, tag: str, steps: int) -> dict[int, np.ndarray]:
        """Return the buckets (left, right, count) of each step."""
        points = self.wait_for("histograms", run, tag, steps)
        assert len(points) == len({step for _, step, _ in points}), "a step was logged twice"
        return {step: np.array(buckets) for _, step, buckets in points}


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("board"))


class Recorder(pl.Callback):
    """The gradients as the backward pass left them, by step: the truth to compare with."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.gradients.append(
            {
                name: parameter.grad.clone()
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None
            }
        )


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
