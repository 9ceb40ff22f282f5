"""Gradient norms in the logs."""

import math
from functools import lru_cache
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from lightning_modules.callbacks.gradient_callback import (
    GradientCallback,
    Gradients,
    Stage,
    layers_of,
)
from lightning_modules.callbacks.scalars import Scalars

# Below it, squares that were summed in float32 may have vanished.
_SMALLEST = 1e-30
_PIECE = 1 << 19


class GradientNorms(GradientCallback):
    """Log the Euclidean norm of the gradient, of each layer and of all together.

    Tags are ``global_gradient_norm/before_clipping`` for all together and
    ``gradient_norm/before_clipping/<layer>``, where a layer's norm covers all its parameters;
    where gradients are clipped, the same with ``after_clipping``. The global norms thus have a
    group of their own, on top, also where there are a hundred layers. A norm that is not finite is
    logged as it is: it tells where NaN or infinity begins. Norms go to every logger.

    What is logged reaches the loggers every fifty steps, at a checkpoint and at the end, however
    the fit ends: handing each step to TensorBoard's writer would take longer than the norms do.

    Args:
        every_n_steps: Steps 0, n, 2n, ... are logged.

    Raises:
        ValueError: every_n_steps is not positive.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        super().__init__(every_n_steps)
        self._scalars = Scalars()

    def loggers(self, trainer: pl.Trainer) -> list[Logger]:
        """Return all loggers."""
        return trainer.loggers

    def log_gradients(
        self, loggers: list[Any], gradients: Gradients, stage: Stage, step: int
    ) -> None:
        """Log a scalar for each layer, and the total."""
        found = norms(list(gradients.values()))
        metrics = {f"global_gradient_norm/{stage}": math.hypot(*found)}
        for tag, norm in zip(_tags(tuple(gradients), stage), found, strict=True):
            metrics[tag] = math.hypot(metrics.get(tag, 0.0), norm)
        self._scalars.add(loggers, metrics, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what is left."""
        self._scalars.write()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Log what led to it."""
        self._scalars.write()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log what a resumed fit will not log again."""
        self._scalars.write()


@lru_cache(maxsize=64)
def _tags(names: tuple[str, ...], stage: Stage) -> tuple[str, ...]:
    """The tag that the gradient of each parameter belongs to."""
    return tuple(f"gradient_norm/{stage}/{layer}" for layer in layers_of(names))


def norms(tensors: list[Tensor]) -> list[float]:
    """Return the Euclidean norm of each tensor, to about 2e-6.

    The squares are summed in float32 where the tensor is no wider, thirty times as fast as in
    float64; only where they leave its range, as in exploding and vanishing gradients, they are
    summed again in float64.
    """
    tensors = [torch.view_as_real(x) if x.is_complex() else x for x in tensors]
    squares = [_square(tensor) for tensor in tensors]
    there = [square for square in squares if isinstance(square, Tensor)]
    # One transfer from the device for all of them.
    fetched = iter(torch.stack(there).tolist() if there else ())
    found = [next(fetched) if isinstance(square, Tensor) else square for square in squares]
    return [
        math.sqrt(square)
        if _SMALLEST < square < math.inf
        else float(torch.linalg.vector_norm(tensor, dtype=torch.float64))
        for square, tensor in zip(found, tensors, strict=True)
    ]


def _square(tensor: Tensor) -> Tensor | float:
    """The sum of the squares; float64, and still on its device where that is not the CPU.

    A dot product is more precise than torch's norm, in pieces because float32 loses three digits
    over ten million terms. On the CPU as few kinds of operations as can be: a training step drives
    the code of all others out of the caches, and to fetch that of one takes as long as the product.
    """
    flat = tensor.reshape(-1)
    if flat.dtype in (torch.float16, torch.bfloat16):
        flat = flat.float()
    if len(flat) <= _PIECE:
        square = torch.dot(flat, flat)
        return square.item() if square.is_cpu else square.double()
    squares = [torch.dot(piece, piece) for piece in flat.split(_PIECE)]
    if flat.is_cpu:
        return sum(square.item() for square in squares)
    return torch.stack(squares).double().sum()
