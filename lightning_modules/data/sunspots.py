"""The yearly number of sunspots, to be forecast."""

import numpy as np
import torch

from lightning_modules.data.in_memory import InMemory, Parts, Split


class Sunspots(InMemory):
    """The mean number of sunspots of a year, from those of the years before it.

    The series covers 1700 to 2008 (World Data Center SILSO's, inside the package statsmodels).
    x: (N, window, 1), the ``window`` years before; y: (N, 1), the year itself. The parts follow
    each other in time: the years up to 1920 to train, 1921 to 1955 to validate, 1956 to 2008 to
    test; those before 1956 are the split of Weigend, Huberman & Rumelhart (1990), "Predicting the
    Future: A Connectionist Approach". The windows of a part reach back into the one before: one
    year ahead, the past is known.

    All numbers are standardized by mean and standard deviation of the years up to 1920, so that a
    mean squared error of 1 is the variance of the training years.

    Args:
        batch_size: Training windows in a batch.
        seed: Seed of the batch order.
        window: Years that are seen, from 1 to 110; a cycle takes about eleven.

    Attributes:
        mean: Of the training years, in sunspots; once loaded.
        deviation: Their standard deviation.

    Raises:
        ValueError: An argument is out of range.
        ModuleNotFoundError: statsmodels is not installed; the message names the command.
    """

    first_year, last_to_train, last_to_validate = 1700, 1920, 1955

    def __init__(self, batch_size: int = 32, seed: int = 0, window: int = 22) -> None:
        super().__init__(batch_size, seed)
        if not 1 <= window <= 110:
            raise ValueError(f"window must lie in 1..110, got {window}")
        self.save_hyperparameters(logger=False)
        self.window = window
        self.mean = self.deviation = float("nan")

    def load(self) -> Parts:
        """Return the three parts, in the order of the years."""
        try:
            from statsmodels.datasets import sunspots
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Sunspots needs statsmodels: python -m pip install 'manual-bp[sunspots]'"
            ) from error
        series = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(np.float64)
        train = series[: self.last_to_train - self.first_year + 1]
        self.mean, self.deviation = float(train.mean()), float(train.std())
        series = ((series - self.mean) / self.deviation).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(series, self.window + 1)
        x, y = (
            torch.from_numpy(windows[:, :-1, None].copy()),
            torch.from_numpy(windows[:, -1:].copy()),
        )
        ends = [year - self.first_year - self.window + 1 for year in self._last_years()]
        return Parts(
            Split(x[: ends[0]], y[: ends[0]]),
            Split(x[ends[0] : ends[1]], y[ends[0] : ends[1]]),
            Split(x[ends[1] :], y[ends[1] :]),
        )

    def _last_years(self) -> tuple[int, int]:
        return self.last_to_train, self.last_to_validate
