"""Two trainings in step: they agree, and a planted error is named by its layer and step."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import manual_bp
from lightning_modules import Classifier
from lightning_modules.callbacks import InStep
from lightning_modules.comparison import Comparison
from lightning_modules.data import Digits
from lightning_modules.networks import MLP

MakeTrainer = Callable[..., pl.Trainer]
DROPOUT = partial(MLP, hidden=(12, 8), dropout=0.3, activation="GELU")
ADAM = partial(torch.optim.Adam, lr=0.01)


class Plain(pl.LightningModule):
    """A module that knows nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        gelu = torch.nn.GELU
        self.body = torch.nn.Sequential(
            torch.nn.Linear(64, 9), gelu(), torch.nn.Dropout(0.2), torch.nn.Linear(9, 7), gelu()
        )
        self.head = torch.nn.Linear(7, 10)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        loss = torch.nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])
        self.log("loss", loss)
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class Drawing(Plain):
    """A module that draws from the random numbers of Python and of NumPy, too."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        factor = random.uniform(0.5, 1.5) * np.random.uniform(0.5, 1.5)
        return {"loss": factor * super().training_step(batch, batch_idx)["loss"]}


class Leaky(torch.autograd.Function):
    """A GELU whose gradient is wrong by a part in a million."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.gelu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        normal = torch.distributions.Normal(0.0, 1.0)
        return grad * (normal.cdf(x) + x * normal.log_prob(x).exp()) * (1 + 1e-6)


def fit(make: MakeTrainer, module: pl.LightningModule, *callbacks: Any, **arguments: Any) -> InStep:
    pl.seed_everything(3, verbose=False)
    defaults: dict[str, Any] = {"precision": "64-true", "max_epochs": 2, "callbacks": [*callbacks]}
    trainer = make(**(defaults | arguments))
    data = Digits(batch_size=200)
    if isinstance(module, Plain):  # which does not validate
        data.setup()
        trainer.fit(module, data.train_dataloader())
    else:
        trainer.fit(module, data)
    (found,) = (c for c in trainer.callbacks if isinstance(c, InStep))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"gradient_clip_val": 0.05},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
    ],
    ids=["plain", "clipped by norm", "clipped by value", "accumulated"],
)
@pytest.mark.parametrize("kind", ["learner", "plain"])
def test_both_go_the_same_way(trainer: MakeTrainer, arguments: dict[str, Any], kind: str) -> None:
    if kind == "learner":
        module: pl.LightningModule = Classifier(DROPOUT, ADAM, backprop="both")
        found = fit(trainer, module, **arguments)
    else:
        module = Plain()
        found = fit(trainer, module, InStep(4), **arguments)
    comparison, twin = found.comparison, found.twin
    assert comparison is not None and twin is not None and found.parted is None
    assert len(comparison.losses) == 12 // arguments.get("accumulate_grad_batches", 1)
    assert len(found.losses) == 12
    if "accumulate_grad_batches" not in arguments:
        assert 0 < comparison.same_weights < 1e-13 and comparison.wrong is None
    assert 0 < max(comparison.gradients) < 1e-9 and max(comparison.weights) < 1e-9
    assert comparison.layers[0] in ("network.output", "head")  # the backward pass begins there
    torch.testing.assert_close(twin.state_dict(), module.state_dict(), rtol=1e-9, atol=1e-12)
    if isinstance(module, Classifier) and isinstance(twin, Classifier):
        assert module.audit is not None and module.audit.all_by_hand
        assert twin.audit is not None and not twin.audit.all_by_hand


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_an_optimizer_that_evaluates_several_times_a_step(
    trainer: MakeTrainer, search: str | None
) -> None:
    optimizer = partial(torch.optim.LBFGS, max_iter=4, lr=0.5, line_search_fn=search)
    found = fit(trainer, Classifier(DROPOUT, optimizer, backprop="both"), max_epochs=1)
    assert found.comparison is not None and found.parted is None
    assert len(found.losses) == 6 and max(found.comparison.gradients) < 1e-9
    assert 0 < found.comparison.same_weights < 1e-13


def test_both_draw_the_same_random_numbers_of_python_and_of_numpy(trainer: MakeTrainer) -> None:
    assert fit(trainer, Drawing(), InStep(4), max_epochs=1).parted is None


def test_a_planted_error_is_named(trainer: MakeTrainer) -> None:
    def planted(x: Tensor, approximate: str = "none") -> Tensor:
        return Leaky.apply(x)

    with manual_bp.register(torch.nn.functional.gelu, planted):
        found = fit(trainer, Plain(), InStep(1))
    assert found.comparison is not None and found.comparison.wrong is not None
    assert found.comparison.wrong.layer == "body.3"
    parted = found.parted
    assert parted is not None
    # the head's gradient does not pass a GELU; body.3 is the first on the way back that does
    assert (parted.step, parted.layer, parted.what) == (0, "body.3", "gradient")
    assert 5e-7 < parted.error < 2e-6
    assert str(parted).startswith("the gradient of body.3 at step 0 (relative error ")


def test_a_wrong_update_is_told_from_a_wrong_gradient(trainer: MakeTrainer) -> None:
    class Wrong(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 4:
                with torch.no_grad():
                    pl_module.head.weight.mul_(1 + 1e-7)

    found = fit(trainer, Plain(), Wrong(), InStep(1))
    assert found.comparison is not None and found.comparison.wrong is None
    parted = found.parted
    assert parted is not None
    assert (parted.step, parted.layer, parted.what) == (3, "head", "weights")


@pytest.mark.parametrize("step", [3, 6, 7])
def test_a_resumed_fit_goes_on_comparing(trainer: MakeTrainer, tmp_path: Path, step: int) -> None:
    class Save(pl.callbacks.Checkpoint):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    def train(**resumed: Any) -> InStep:
        pl.seed_everything(3, verbose=False)
        module = Classifier(DROPOUT, ADAM, backprop="both")
        callbacks = [] if resumed else [Save()]
        made = trainer(
            precision="64-true", max_epochs=3, callbacks=callbacks, enable_checkpointing=not resumed
        )
        made.fit(module, Digits(batch_size=200), **resumed)
        return next(c for c in made.callbacks if isinstance(c, InStep))  # type: ignore[attr-defined]

    whole = train()
    torch.manual_seed(99)
    resumed = train(ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert whole.comparison is not None and resumed.comparison is not None
    assert resumed.losses == whole.losses
    for name in ("losses", "gradients", "weights", "by_layer", "weights_by_layer"):
        assert getattr(resumed.comparison, name) == getattr(whole.comparison, name), name
    assert whole.twin is not None and resumed.twin is not None
    torch.testing.assert_close(resumed.twin.state_dict(), whole.twin.state_dict(), rtol=0, atol=0)


class Manual(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


def test_what_cannot_be_trained_in_step_is_refused(trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="Manual steps its optimizers itself"):
        fit(trainer, Manual(), InStep())
    with pytest.raises(ValueError, match="every_n_steps must be positive, got 0"):
        InStep(0)


def compare(
    ours: list[Tensor], theirs: list[Tensor], dtype: torch.dtype = torch.float64
) -> Comparison:
    comparison = Comparison(["b.weight", "b.bias", "a.weight"], dtype)
    one = torch.ones((), dtype=dtype)
    ours, theirs = ([t.to(dtype) for t in ts] for ts in (ours, theirs))
    comparison.add(7, (one, one), (ours, theirs), (ours, ours))
    comparison.flush()
    return comparison


def test_the_error_of_a_layer_is_of_all_its_parameters() -> None:
    b, a = torch.tensor([3.0, 0.0]).double(), torch.tensor([1.0]).double()
    found = compare([b, 4 * a, a], [b, 4 * a * (1 + 1e-6), a])
    assert found.by_layer["b"] == pytest.approx(4e-6 / 5, rel=1e-5)
    assert found.by_layer["a"] == 0 and found.weights == [0]
    assert found.parted is not None and found.parted.layer == "b" and found.parted.step == 7


@pytest.mark.parametrize(
    ("ours", "theirs", "parted"),
    [
        (1e-17, -1e-17, None),  # rounding, where the gradient is zero in truth
        (1e-12, -1e-12, "a"),  # small, and wrong
        (float("nan"), float("nan"), None),
        (float("inf"), float("nan"), None),
        (float("nan"), 1.0, "a"),
        (0.0, 0.0, None),
    ],
)
def test_what_counts_as_apart(ours: float, theirs: float, parted: str | None) -> None:
    b = torch.tensor([1.0])
    found = compare([b, b, torch.tensor([ours])], [b, b, torch.tensor([theirs])])
    assert (found.parted and found.parted.layer) == parted


def test_a_loss_alone_that_differs_is_named() -> None:
    comparison = Comparison(["a.weight"], torch.float64)
    losses = torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    same = [torch.ones(2, dtype=torch.float64)]
    comparison.add(0, losses, (same, same), (same, same))
    tags = comparison.flush()
    assert tags["manual_against_autograd/loss"] == 0.5
    assert comparison.parted is not None and comparison.parted.what == "loss"
    assert str(comparison.parted) == "the loss at step 0 (relative error 5.0e-01)"
