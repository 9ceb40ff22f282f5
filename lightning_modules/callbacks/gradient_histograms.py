"""Gradient histograms in TensorBoard."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_modules.callbacks.gradient_callback import (
    GradientCallback,
    Gradients,
    Stage,
    module_and_parameter,
)
from lightning_modules.callbacks.histogram import histogram, sample

_GROUPS: dict[Stage, str] = {
    "before_clipping": "gradients",
    "after_clipping": "gradients_clipped",
}


class GradientHistograms(GradientCallback):
    """Show in TensorBoard how the gradient of each parameter is distributed.

    Tags are ``gradients/<layer>/<parameter>``; where gradients are clipped, also
    ``gradients_clipped/<layer>/<parameter>``. NaN and infinite values are left out of the
    histogram, and their number in the whole gradient is logged as the scalar
    ``gradients_nonfinite/<layer>/<parameter>``.

    A large gradient is sampled: every k-th value, k chosen so that all rows and columns have
    their share. Minimum and maximum are those of the sample.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are logged.
        max_values: Values of one gradient that are looked at, at most.

    Raises:
        ValueError: An argument is not positive.
    """

    def __init__(self, every_n_steps: int = 50, max_values: int = 65536) -> None:
        super().__init__(every_n_steps)
        if max_values < 1:
            raise ValueError(f"max_values must be positive, got {max_values}")
        self.max_values = max_values

    def loggers(self, trainer: pl.Trainer) -> list[TensorBoardLogger]:
        """Return the TensorBoard loggers: the others have no histograms."""
        return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]

    def log_gradients(
        self, loggers: list[Any], gradients: Gradients, stage: Stage, step: int
    ) -> None:
        """Log a histogram for each parameter."""
        samples = [sample(gradient, self.max_values) for gradient in gradients.values()]
        # One transfer from the device for all of them.
        values = torch.cat(samples).cpu().split([len(s) for s in samples])
        # A sum is finite only if every term is, and passes over the gradient once, fifty times
        # as fast as isfinite; where it is not, the culprits are counted.
        finite = torch.stack([g.sum().isfinite() for g in gradients.values()]).tolist()
        for (name, gradient), some, all_finite in zip(
            gradients.items(), values, finite, strict=True
        ):
            module, parameter = module_and_parameter(name)
            label = f"{module}/{parameter}" if module else parameter
            for logger in loggers:
                writer = logger.experiment
                found = histogram(some.numpy())
                if found is not None:
                    writer.add_histogram_raw(
                        f"{_GROUPS[stage]}/{label}", **found._asdict(), global_step=step
                    )
                if not all_finite and (bad := int((~gradient.isfinite()).sum())):
                    writer.add_scalar(f"gradients_nonfinite/{label}", bad, step)
