"""How far the gradients of mini-batches lie from the gradient of all samples."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training import whole
from experiments.training.recording import Curves
from lightning_modules import Learner


class GradientNoise(Curves):
    """Keeps the spread of mini-batch gradients at fixed weights, before the first step and at last.

    ``noise/<B>`` is the mean of ``|g_B - G|^2`` over random batches of B samples, ``G`` being the
    gradient over the whole training part; ``noise/gradient`` is ``|G|^2``. Both have two numbers,
    for the start and the end. Every gradient is one backward pass through the module. The batches
    are those of whole epochs, because late in a training a few samples have most of the gradient:
    batches that leave some of them out would say less, or more, than is true.

    With ``S`` the covariance of a single sample's gradient, batches drawn without replacement from
    N samples have ``E |g_B - G|^2 = tr(S) / B * (N - B) / (N - 1)``. The batch size at which noise
    and signal are equal, ``tr(S) / |G|^2``, is the simple noise scale of McCandlish, Kaplan, Amodei
    et al. (2018), "An empirical model of large-batch training", equation 2.9 (arXiv:1812.06162).

    Args:
        sizes: The batch sizes; best such that divide the number of samples.
        draws: How many random batches of each, at least; as many whole epochs as that takes.

    Raises:
        ValueError: A size or the number of draws is not positive; or, when the training starts, a
            size is larger than the training part.
    """

    def __init__(self, sizes: Sequence[int], draws: int = 50) -> None:
        super().__init__()
        if min((*sizes, draws)) < 1:
            raise ValueError(f"sizes and draws must be positive, got {list(sizes)} and {draws}")
        self.sizes = tuple(sizes)
        self.draws = draws
        self._kept: dict[str, list[float]] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure before the first step."""
        if trainer.global_step == 0 and not self._kept:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure at the end."""
        self._measure(trainer, pl_module)

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return self._kept

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {name: torch.tensor(xs, dtype=torch.float64) for name, xs in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = {name: xs.tolist() for name, xs in state_dict.items()}

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Learner), f"GradientNoise needs a Learner, got {module!r}"
        x, y = whole.training_part(trainer, module)
        if max(self.sizes, default=0) > len(y):
            raise ValueError(f"sizes must be at most {len(y)}, all samples, got {self.sizes}")
        full = whole.gradient(module, (x, y))
        draw = torch.Generator().manual_seed(trainer.global_step)
        for size in self.sizes:
            apart, count = torch.zeros_like(full[0]), 0
            while count < self.draws:
                order = torch.randperm(len(y), generator=draw).to(y.device)
                for rows in order[: len(y) // size * size].split(size):
                    apart += _square(whole.gradient(module, (x[rows], y[rows])) - full)
                    count += 1
            self._keep(f"noise/{size}", apart / count)
        self._keep("noise/gradient", _square(full))

    def _keep(self, name: str, value: Tensor) -> None:
        self._kept.setdefault(name, []).append(float(value))


def _square(v: Tensor) -> Tensor:
    return v @ v
