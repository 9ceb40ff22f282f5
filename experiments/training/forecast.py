"""A forecast, and the two that it must beat: that nothing changes, and a linear autoregression."""

from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from experiments.training.recording import Curves

Array = NDArray[np.float64]


class Forecast(Curves):
    """Keeps what is forecast for the test part, beside two forecasts that need no network.

    For a data module with windows x, (N, window, 1), and the number that follows, y, (N, 1), such
    as :class:`lightning_modules.data.Sunspots`. The curves over the test part are
    ``forecast/truth``, ``forecast/network``, ``forecast/persistence`` (the last number again) and
    ``forecast/autoregression`` (least squares on the last p numbers and a constant, fitted to the
    training part, with the p that does best on the validation part; ``forecast/order`` has it).
    ``forecast/deviation`` is the data module's: what a difference of 1 stands for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, list[float]] = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forecast with the last weights."""
        parts = trainer.datamodule.parts  # type: ignore[attr-defined]
        like = next(pl_module.parameters())
        training = pl_module.training
        pl_module.eval()
        with torch.no_grad():
            network = pl_module(parts.test.x.to(like))
        pl_module.train(training)
        train, validation, test = (
            (x[..., 0].double().numpy(), y[:, 0].double().numpy()) for x, y in parts
        )
        order = best_order(train, validation)
        found = {
            "truth": test[1],
            "network": network[:, 0].double().cpu().numpy(),
            "persistence": test[0][:, -1],
            "autoregression": autoregression(*train, order)(test[0]),
            "order": np.array([float(order)]),
            "deviation": np.array([trainer.datamodule.deviation]),  # type: ignore[attr-defined]
        }
        self._kept = {f"forecast/{name}": values.tolist() for name, values in found.items()}

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return self._kept


def autoregression(x: Array, y: Array, order: int) -> Callable[[Array], Array]:
    """Fit ``y = a + sum_l b_l x_(t-l)`` by least squares to windows x, (N, window), and y, (N,).

    Returns:
        What forecasts from windows, (N, window) to (N,).
    """

    def lags(windows: Array) -> Array:
        return np.column_stack([np.ones(len(windows)), windows[:, -order:]])

    weights, *_ = np.linalg.lstsq(lags(x), y, rcond=None)

    def forecast(windows: Array) -> Array:
        found: Array = lags(windows) @ weights
        return found

    return forecast


def best_order(train: tuple[Array, Array], validation: tuple[Array, Array]) -> int:
    """The number of lags whose forecast of the validation part has the least squared error."""
    x, y = validation
    errors = {
        order: float(np.mean((autoregression(*train, order)(x) - y) ** 2))
        for order in range(1, train[0].shape[1] + 1)
    }
    return min(errors, key=errors.__getitem__)
