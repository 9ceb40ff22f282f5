"""Gradient norms in the logs."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lightning_modules.callbacks.gradient_callback import (
    GradientCallback,
    Gradients,
    Stage,
    module_and_parameter,
)

# Below it, squares that were summed in float32 may have vanished (up to 1e8 values).
_SMALLEST = 1e-15


class GradientNorms(GradientCallback):
    """Log the Euclidean norm of the gradient, of each layer and of all together.

    Tags are ``global_gradient_norm/before_clipping`` for all together and
    ``gradient_norm/before_clipping/<layer>``, where a layer's norm covers all its parameters;
    where gradients are clipped, the same with ``after_clipping``. The global norms thus have a
    group of their own, on top, also where there are a hundred layers. A norm that is not finite is
    logged as it is: it tells where NaN or infinity begins. Norms go to every logger.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are logged.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        super().__init__(every_n_steps)

    def loggers(self, trainer: pl.Trainer) -> list[Logger]:
        """Return all loggers."""
        return trainer.loggers

    def log_gradients(
        self, loggers: list[Any], gradients: Gradients, stage: Stage, step: int
    ) -> None:
        """Log a scalar for each layer, and the total."""
        layers: dict[str, list[float]] = {}
        for name, norm in zip(gradients, norms(list(gradients.values())), strict=True):
            layers.setdefault(module_and_parameter(name)[0] or name, []).append(norm)
        by_layer = {layer: math.hypot(*parts) for layer, parts in layers.items()}
        metrics = {f"global_gradient_norm/{stage}": math.hypot(*by_layer.values())}
        metrics |= {f"gradient_norm/{stage}/{layer}": norm for layer, norm in by_layer.items()}
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                _write_at_once(logger.experiment, metrics, step)
            else:
                logger.log_metrics(metrics, step=step)


def _write_at_once(writer: SummaryWriter, metrics: dict[str, float], step: int) -> None:
    """Write all scalars as one event: a third of the time of one event each."""
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
    writer._get_file_writer().add_summary(Summary(value=scalars), step)


def norms(tensors: list[Tensor]) -> list[float]:
    """Return the Euclidean norm of each tensor.

    The squares are summed in float32 where the tensor is no wider, thirty times as fast as in
    float64; only where they leave its range, as in exploding and vanishing gradients, they are
    summed again in float64.
    """
    short = (torch.float16, torch.bfloat16)
    found = torch._foreach_norm([t.float() if t.dtype in short else t for t in tensors])
    return [
        norm
        if _SMALLEST < norm < math.inf
        else float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
        # One transfer from the device for all of them.
        for norm, tensor in zip(
            torch.stack([n.double() for n in found]).tolist(), tensors, strict=True
        )
    ]
