"""A trained network on images that have been moved."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import pad

from experiments.training import whole
from experiments.training.recording import Curves
from lightning_modules.data import InMemory
from lightning_modules.learner import Learner

WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))


class Shifted(Curves):
    """Tests a classifier on its test images, moved up, down, left and right, when it is trained.

    The curve ``shifted/accuracy`` has one number for 0, 1, ..., ``pixels`` pixels: the mean over
    the four ways. What comes in at the border is 0, what goes out is lost.

    Args:
        pixels: How far at most.

    Raises:
        ValueError: It is negative.
    """

    def __init__(self, pixels: int = 4) -> None:
        super().__init__()
        if pixels < 0:
            raise ValueError(f"pixels must not be negative, got {pixels}")
        self.pixels = pixels
        self._accuracies: list[float] = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Test."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, InMemory) and isinstance(pl_module, Learner)
        x, y = whole.placed(data.parts.test, pl_module)
        training = pl_module.training
        pl_module.eval()
        with torch.no_grad():
            for pixels in range(self.pixels + 1):
                found = [
                    pl_module.score(pl_module(moved(x, pixels * down, pixels * right)), (x, y))
                    for down, right in (WAYS if pixels else WAYS[:1])
                ]
                accuracies = torch.stack([each["accuracy"] for each in found])
                self._accuracies.append(float(accuracies.mean()))
        pl_module.train(training)

    def curves(self) -> dict[str, list[float]]:
        """The accuracies."""
        return {"shifted/accuracy": self._accuracies}


def moved(x: Tensor, down: int, right: int) -> Tensor:
    """Images (..., H, W), moved by so many pixels, negative ones up or left; same shape."""
    height, width = x.shape[-2:]
    margin = max(abs(down), abs(right))
    rows, columns = (
        slice(margin - by, margin - by + n) for by, n in ((down, height), (right, width))
    )
    return pad(x, (margin,) * 4)[..., rows, columns]
