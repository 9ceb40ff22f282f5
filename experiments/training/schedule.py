"""The learning rate as a function of the step."""

import math
from typing import Any, Literal, get_args

import pytorch_lightning as pl

Shape = Literal["constant", "step", "cosine", "1/sqrt"]


def factor(shape: Shape, step: int, steps: float, warmup: int = 0) -> float:
    """What a schedule multiplies the rate by.

    Args:
        shape: With ``s`` the share of the training that is over, from 0 to 1,

            - "constant": 1;
            - "step": 1, then 1/10 from ``s`` = 1/2 and 1/100 from ``s`` = 3/4 on, as He et al.
              (2016, section 4.2) train on CIFAR-10;
            - "cosine": ``(1 + cos(pi s)) / 2`` (Loshchilov & Hutter 2017, equation 5);
            - "1/sqrt": ``1 / sqrt(1 + 30 s)``, the decay under which the average of convex
              stochastic gradient descent converges (Nemirovski et al. 2009, section 2.2).
        step: The number of the step, from 0.
        steps: How many there are in all; infinite for a training without an end.
        warmup: The first so many steps also grow in proportion: 1/n, 2/n, ... 1.

    Returns:
        From 0 to 1.
    """
    share = step / steps
    decay = {
        "constant": 1.0,
        "step": 1.0 if share < 0.5 else 0.1 if share < 0.75 else 0.01,
        "cosine": (1 + math.cos(math.pi * share)) / 2,
        "1/sqrt": 1 / math.sqrt(1 + 30 * share),
    }[shape]
    return decay * min(1.0, (step + 1) / max(1, warmup))


class Schedule(pl.Callback):
    """Sets the learning rate before every step.

    It depends on nothing but the step, so a resumed training goes on as if nothing had happened.

    Args:
        shape: "constant", "step", "cosine" or "1/sqrt"; see :func:`factor`.
        warmup: How many steps the rate grows for at first.

    Raises:
        ValueError: The shape is none of those, or warmup is negative.
    """

    def __init__(self, shape: Shape = "constant", warmup: int = 0) -> None:
        if shape not in get_args(Shape):
            raise ValueError(f"shape must be one of {get_args(Shape)}, got {shape!r}")
        if warmup < 0:
            raise ValueError(f"warmup must be 0 or positive, got {warmup}")
        self.shape: Shape = shape
        self.warmup = warmup

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of this step."""
        steps = trainer.estimated_stepping_batches
        scale = factor(self.shape, trainer.global_step, steps, self.warmup)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * scale
