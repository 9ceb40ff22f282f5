"""The loss over the whole training part and its derivatives, by hand where the module is."""

from collections.abc import Callable
from contextlib import nullcontext

import pytorch_lightning as pl
import torch
from torch import Tensor

import manual_bp
from lightning_modules import Learner
from lightning_modules.data import InMemory

Batch = tuple[Tensor, Tensor]


def training_part(trainer: pl.Trainer, module: pl.LightningModule) -> Batch:
    """All training samples (x, y), on the module's device, x in its precision.

    Raises:
        TypeError: The trainer has no data module that keeps its parts in memory.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, InMemory):
        raise TypeError(f"expected a data module with its parts in memory, got {data!r}")
    x, y = data.parts.train
    return x.to(next(module.parameters())), y.to(module.device)


def loss(module: Learner, batch: Batch) -> Tensor:
    """The mean loss of a batch, a scalar with the backward graph that the module trains by."""
    with nullcontext() if module.backprop == "autograd" else manual_bp.by_hand():
        return module.loss_and_output(batch)[0]


def gradient(module: Learner, batch: Batch) -> Tensor:
    """The gradient of :func:`loss`, all parameters in one row, (P,)."""
    found = torch.autograd.grad(loss(module, batch), list(module.parameters()))
    return torch.cat([g.flatten() for g in found])


def hessian_products(module: Learner, batch: Batch) -> Callable[[Tensor], Tensor]:
    """The Hessian of the loss of a batch as a function from v to H v, (P,) to (P,).

    Pearlmutter (1994), "Fast exact multiplication by the Hessian": H v is the gradient of g . v, so
    one more backward pass, through the operations of the first. By hand these are the backwards
    that are written out in :mod:`manual_bp`. The graph of the first pass is kept and shared.
    """
    parameters = list(module.parameters())
    first = torch.autograd.grad(loss(module, batch), parameters, create_graph=True)
    row = torch.cat([g.flatten() for g in first])

    def product(v: Tensor) -> Tensor:
        second = torch.autograd.grad(
            row, parameters, v, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return torch.cat([h.flatten() for h in second])

    return product
