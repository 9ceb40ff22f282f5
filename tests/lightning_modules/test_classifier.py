import json
import math
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger

import manual_bp
from lightning_modules import Classifier
from lightning_modules.callbacks import Trajectory
from lightning_modules.data import XOR, Digits
from lightning_modules.networks import MLP, ResNet

MakeTrainer = Callable[..., pl.Trainer]
SIDES = ["manual", "autograd"]
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
SMALL = partial(MLP, hidden=(16,))
SMALL_RESNET = partial(ResNet, channels=(4, 6), blocks=(1, 1))
XOR_NET = partial(MLP, in_features=2, hidden=(4,), out_features=1)


def train(make: MakeTrainer, backprop: str, **arguments: Any) -> Trajectory:
    pl.seed_everything(5, verbose=False)
    path = Trajectory()
    trainer = make(precision="64-true", callbacks=[path], max_epochs=2)
    data = arguments.pop("data", None) or Digits(batch_size=200, image=True)
    module = Classifier(backprop=backprop, **({"optimizer": SGD} | arguments))  # type: ignore[arg-type]
    trainer.fit(module, data)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        {"network": SMALL, "optimizer": SGD},
        {"network": partial(MLP, hidden=(8, 8), normalization="BatchNorm1d", dropout=0.3)},
        {"network": partial(MLP, hidden=(8,), activation="GELU", normalization="LayerNorm")},
        {"network": SMALL_RESNET, "optimizer": SGD},
        {"network": XOR_NET, "loss": "MSELoss", "data": XOR(50)},
        {"network": XOR_NET, "loss": "BCEWithLogitsLoss", "data": XOR(50)},
    ],
    ids=["mlp", "batch norm and dropout", "layer norm", "resnet", "mse", "bce"],
)
def test_by_hand_and_by_autograd_go_the_same_way(
    trainer: MakeTrainer, arguments: dict[str, Any]
) -> None:
    manual, native = (train(trainer, side, **arguments) for side in SIDES)
    assert len(manual.losses) >= 12
    assert manual.losses == pytest.approx(native.losses, rel=1e-9)
    assert manual.losses[-1] < manual.losses[0]
    torch.testing.assert_close(manual.weights, native.weights, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("network", "loss", "data"),
    [
        (SMALL_RESNET, "CrossEntropyLoss", Digits(batch_size=8, image=True)),
        (XOR_NET, "MSELoss", XOR()),
        (XOR_NET, "BCEWithLogitsLoss", XOR()),
    ],
)
def test_a_manual_training_step_has_no_node_of_autograds_own(
    trainer: MakeTrainer, network: Any, loss: Any, data: Any
) -> None:
    found: dict[str, manual_bp.Audit | None] = {}
    for side in SIDES:
        module = Classifier(network, SGD, backprop=side, loss=loss)  # type: ignore[arg-type]
        assert module.audit is None
        trainer(max_steps=1).fit(module, data)
        found[side] = module.audit
    manual, native = found["manual"], found["autograd"]
    assert manual is not None and manual.all_by_hand, str(manual)
    assert native is not None and not native.all_by_hand


def test_the_seed_alone_decides_the_first_weights() -> None:
    states = []
    for side in SIDES:
        torch.manual_seed(3)
        states.append(Classifier(SMALL, SGD, backprop=side).state_dict())  # type: ignore[arg-type]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert isinstance(Classifier(SMALL, SGD).network.linear1, manual_bp.nn.Linear)
    assert not isinstance(
        Classifier(SMALL, SGD, backprop="autograd").network.linear1, manual_bp.nn.Linear
    )


def test_losses_and_accuracies(trainer: MakeTrainer) -> None:
    data = Digits(batch_size=1200)
    module = Classifier(SMALL, SGD, backprop="autograd")
    fit = trainer(log_every_n_steps=1)
    fit.fit(module, data)
    assert set(fit.callback_metrics) == {
        *(f"{part}/{metric}" for part in ("train", "val") for metric in ("loss", "accuracy")),
        *("hp/val_loss", "hp/val_accuracy"),
    }
    (found,) = fit.test(module, data, verbose=False)
    x, y = data.parts.test
    logits = module(x)
    assert found == pytest.approx(
        {
            "test/loss": torch.nn.functional.cross_entropy(logits, y).item(),
            "test/accuracy": (logits.argmax(1) == y).double().mean().item(),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("loss", ["MSELoss", "BCEWithLogitsLoss"])
def test_binary_losses_are_means_over_probabilities(trainer: MakeTrainer, loss: Any) -> None:
    module = Classifier(XOR_NET, SGD, backprop="autograd", loss=loss)
    (found,) = trainer().test(module, XOR(), verbose=False)
    x, y = XOR().parts.test
    p = torch.sigmoid(module(x))[:, 0]
    expected = (
        (p - y).square().mean()
        if loss == "MSELoss"
        else -torch.where(y == 1, p.log(), (1 - p).log()).mean()
    )
    assert found["test/loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert found["test/accuracy"] == ((p > 0.5) == y).float().mean().item()


def test_schedules_step_each_epoch_and_plateaus_follow_the_validation_loss(
    trainer: MakeTrainer,
) -> None:
    step = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e9)
    for scheduler, expected in ((step, 0.1 / 8), (plateau, 0.1 * 0.1**3)):
        module = Classifier(SMALL, SGD, scheduler, backprop="autograd")
        trainer(max_epochs=3).fit(module, Digits(batch_size=600))
        assert module.optimizers().param_groups[0]["lr"] == pytest.approx(expected)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backprop": "hand"}, ValueError, "backprop must be .* or \"both\", got 'hand'"),
        (
            {"loss": "mse"},
            ValueError,
            'loss must be "CrossEntropyLoss", .* or "MSELoss", got \'mse\'',
        ),
        ({"network": 3}, TypeError, "network must be a callable that builds it, got 3"),
        ({"network": lambda nn: 3}, TypeError, "network must build a torch.nn.Module, got 3"),
        ({"optimizer": "SGD"}, TypeError, "optimizer must be a callable that builds it, got 'SGD'"),
        ({"scheduler": 1}, TypeError, "scheduler must be a callable that builds it, got 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Classifier(**({"network": SMALL, "optimizer": SGD} | arguments))  # type: ignore[arg-type]


def test_a_binary_loss_refuses_other_logits(trainer: MakeTrainer) -> None:
    module = Classifier(partial(XOR_NET, out_features=2), SGD, loss="MSELoss")
    with pytest.raises(ValueError, match=r"needs one logit a sample, shape \(4, 1\), .* \(4, 2\)"):
        trainer().fit(module, XOR())


DROPOUT = partial(MLP, hidden=(8,), normalization="BatchNorm1d", dropout=0.5)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    ("step", "when"),
    [
        # three epochs of three steps, stopped inside an epoch, at its end, at the very end
        *((step, {"every_n_train_steps": 1}) for step in (2, 3, 4, 7, 9)),
        (6, {"every_n_epochs": 1, "save_on_train_epoch_end": True}),
        (6, {"every_n_epochs": 1, "save_on_train_epoch_end": False}),  # after the validation
    ],
)
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    trainer: MakeTrainer, tmp_path: Path, step: int, when: dict[str, Any]
) -> None:
    def fit(path: Trajectory, ckpt: Path | None = None, kill_at: int | None = None) -> Classifier:
        class Kill(pl.Callback):
            def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
                if trainer.global_step == kill_at:
                    raise RuntimeError("killed")

        pl.seed_everything(9, verbose=False)
        module = Classifier(DROPOUT, SGD, backprop="autograd")
        saving = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", **when)
        make = trainer(callbacks=[path, Kill(), saving], enable_checkpointing=True, max_epochs=3)
        make.fit(module, Digits(batch_size=400), ckpt_path=ckpt)
        return module

    whole, part, rest = Trajectory(), Trajectory(), Trajectory()
    expected = fit(whole)
    for file in tmp_path.iterdir():
        file.unlink()
    if step < 9:
        with pytest.raises(RuntimeError, match="killed"):
            fit(part, kill_at=step)
    else:
        fit(part)
    assert part.losses == whole.losses[:step]
    checkpoint = tmp_path / f"step={step}.ckpt"
    torch.load(checkpoint, weights_only=True)
    found = fit(rest, checkpoint)
    assert rest.losses == whole.losses
    torch.testing.assert_close(rest.weights, whole.weights, rtol=0, atol=0)
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def save(make: MakeTrainer, module: Classifier, path: Path) -> Path:
    trainer = make(max_steps=2)
    trainer.fit(module, Digits())
    trainer.save_checkpoint(path)
    return path


def test_checkpoints_are_data_and_rebuild_the_module(trainer: MakeTrainer, tmp_path: Path) -> None:
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=3)
    module = Classifier(DROPOUT, SGD, scheduler, backprop="autograd")
    path = save(trainer, module, tmp_path / "saved.ckpt")
    hparams = torch.load(path, weights_only=True)["hyper_parameters"]
    assert hparams["network"] == {
        "class_path": "lightning_modules.networks.mlp.MLP",
        "init_args": {"hidden": (8,), "normalization": "BatchNorm1d", "dropout": 0.5},
    }
    state = torch.get_rng_state()
    again = Classifier.load_from_checkpoint(path, weights_only=True)
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert again.backprop == "autograd"
    assert again.configure_optimizers()["optimizer"].defaults["momentum"] == 0.9
    assert again.configure_optimizers()["lr_scheduler"]["scheduler"].step_size == 3
    # rebuilt, saved and rebuilt once more
    path = save(trainer, again, tmp_path / "again.ckpt")
    Classifier.load_from_checkpoint(path, weights_only=True)
    assert not torch.equal(state, torch.get_rng_state())  # loading draws, but restores nothing


def test_what_cannot_be_described_is_given_again(trainer: MakeTrainer, tmp_path: Path) -> None:
    module = Classifier(lambda nn: SMALL(nn), SGD, backprop="autograd")
    path = save(trainer, module, tmp_path / "saved.ckpt")
    assert "network" not in torch.load(path, weights_only=True)["hyper_parameters"]
    again = Classifier.load_from_checkpoint(path, network=SMALL)
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)


CONFIG = """
model:
  class_path: lightning_modules.Classifier
  init_args:
    network:
      class_path: lightning_modules.networks.MLP
      init_args: {hidden: [5, 4], activation: Tanh}
    optimizer:
      class_path: torch.optim.SGD
      init_args: {lr: 0.3}
    scheduler:
      class_path: torch.optim.lr_scheduler.StepLR
      init_args: {step_size: 3}
    backprop: autograd
data:
  class_path: lightning_modules.data.Digits
  init_args: {batch_size: 600}
trainer:
  max_epochs: 1
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_model_summary: false
  enable_progress_bar: false
  callbacks:
    - class_path: lightning_modules.callbacks.GradientNorms
      init_args: {every_n_steps: 2}
    - class_path: lightning_modules.callbacks.GradientHistograms
    - class_path: lightning_modules.callbacks.Trajectory
"""


def cli(config: Path, *arguments: str) -> LightningCLI:
    return LightningCLI(
        Classifier,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        save_config_callback=None,
        run=False,
        seed_everything_default=1,
        parser_kwargs={"exit_on_error": False},
        args=["--config", str(config), *arguments],
    )


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.argv", ["cli"])
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_from_yaml(config: Path, tmp_path: Path) -> None:
    made = cli(config, "--model.init_args.network.init_args.hidden=[7]")
    module = made.model
    assert isinstance(module, Classifier)
    assert [
        m.out_features for m in module.network.children() if isinstance(m, torch.nn.Linear)
    ] == [7, 10]
    assert isinstance(module.network.activation1, torch.nn.Tanh)
    configured = module.configure_optimizers()
    assert configured["optimizer"].param_groups[0]["lr"] == 0.3
    assert configured["lr_scheduler"]["scheduler"].step_size == 3
    made.trainer.callbacks[:] = [  # type: ignore[attr-defined]
        callback
        for callback in made.trainer.callbacks  # type: ignore[attr-defined]
        if "Gradient" not in type(callback).__name__  # without a logger they would warn
    ]
    made.trainer.fit(module, made.datamodule)
    made.trainer.save_checkpoint(tmp_path / "saved.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True)
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["network=lightning_modules.networks.ResNet", "backprop=manual"])
def test_single_choices_from_the_command_line(config: Path, name: str) -> None:
    made = cli(config, f"--model.init_args.{name}")
    assert name.rsplit(".", 1)[-1] in (type(made.model.network).__name__, "backprop=manual")


@pytest.mark.parametrize("wrong", ["backprop=hand", "loss=mse", "network=torch.optim.SGD"])
def test_bad_values_in_yaml(config: Path, wrong: str) -> None:
    with pytest.raises(Exception, match=wrong.split("=")[0]):
        cli(config, f"--model.init_args.{wrong}")


def test_the_hparams_page_has_a_row_with_its_metrics(
    board: Any, trainer: MakeTrainer, tmp_path: Path
) -> None:
    logger = TensorBoardLogger(board.logdir, name="hparams", version="one")
    module = Classifier(SMALL, SGD, backprop="autograd")
    fit = trainer(logger=logger, log_every_n_steps=1)
    fit.fit(module, Digits(batch_size=600))
    run = "hparams/one"
    loss = board.scalars(run, "hp/val_loss", 2)
    assert math.isnan(loss[0])
    assert loss[1] == pytest.approx(fit.callback_metrics["val/loss"].item(), rel=1e-6)
    assert "batch_size: 600" in (board.logdir / run / "hparams.yaml").read_text()
    assert "hp_metric" not in board.tags("scalars", run)
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy"} <= board.tags(
        "scalars", run
    )

    def ask(route: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{board.url}data/plugin/hparams/{route}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    experiment = ask("experiment", {"experimentName": ""})
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert metrics == {"hp/val_loss", "hp/val_accuracy"}
    columns = {info["name"] for info in experiment["hparamInfos"]}
    assert {"backprop", "loss", "batch_size", "network/class_path"} <= columns
    assert not [name for name in columns if name.startswith("_")]
