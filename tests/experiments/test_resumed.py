"""A trial that goes on from any of its checkpoints ends as if it had never been killed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import configs
from experiments.training import fit
from experiments.training.checkpoint import Checkpoint
from experiments.trial import Outcome


def config(path: Path, **trainer: Any) -> Path:
    """Epochs of four batches; something is measured before the first step and after the last."""
    watch = configs.item("experiments.training.gradient_noise.GradientNoise", sizes=[50], draws=2)
    made = configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[4], dropout=0.2),
        optimizer=configs.optimizer("Adam", "manual", lr=0.01),
        data=configs.item("lightning_modules.data.NoisyDigits", samples=100, batch_size=25),
        backprop="manual",
        seed=0,
        epochs=2,
        evaluate_every=2,
        trainer=trainer,
        callbacks=[watch],
    )
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return path


def said(outcome: Outcome) -> str:
    curves = {name: xs for name, xs in outcome.curves.items() if not name.startswith("clock/")}
    weights = {name: array.tolist() for name, array in outcome.weights.items()}
    return repr((sorted(curves.items()), outcome.metrics, outcome.all_by_hand, weights))


@pytest.mark.parametrize(
    "trainer", [{"accumulate_grad_batches": 2}, {"max_epochs": -1, "max_steps": 5}]
)
def test_every_checkpoint_leads_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: dict[str, int]
) -> None:
    path, save = config(tmp_path / "config.yaml", **trainer), Checkpoint._save
    saved: list[Path] = []

    def keep(self: Checkpoint, trainer: Any) -> None:
        self.path = tmp_path / f"{len(saved)}.ckpt"
        save(self, trainer)
        if self.path.is_file():
            saved.append(Path(shutil.copy(self.path, tmp_path / f"kept{len(saved)}.ckpt")))

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "_save", keep)
        undisturbed = fit.train(path, tmp_path / "none.ckpt", every_seconds=0)
    assert undisturbed.all_by_hand and len(undisturbed.curves["noise/50"]) == 2
    assert len(saved) >= 2
    for checkpoint in saved:
        assert said(fit.train(path, checkpoint, every_seconds=1e9)) == said(undisturbed)
