"""The loss over the whole training part and its derivatives, by hand where the module is."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_modules import Learner
from lightning_modules.data import InMemory
from lightning_modules.data.in_memory import Split

Batch = tuple[Tensor, Tensor]


def training_part(trainer: pl.Trainer, module: pl.LightningModule) -> Batch:
    """All training samples, as :func:`placed` has them.

    Raises:
        TypeError: The trainer has no data module that keeps its parts in memory.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, InMemory):
        raise TypeError(f"expected a data module with its parts in memory, got {data!r}")
    return placed(data.parts.train, module)


def placed(part: Split, module: pl.LightningModule) -> Batch:
    """A part (x, y) on the module's device, x in its precision unless it holds integers."""
    x, y = part
    dtype = next(module.parameters()).dtype if x.is_floating_point() else x.dtype
    return x.to(module.device, dtype), y.to(module.device)


def trained(module: torch.nn.Module) -> list[Tensor]:
    """The parameters that are not frozen: what a gradient, (P,), is taken for."""
    return [p for p in module.parameters() if p.requires_grad]


def loss(module: Learner, batch: Batch) -> Tensor:
    """The mean loss of a batch, a scalar with the backward graph that the module trains by."""
    with module.differentiation():
        return module.loss_and_output(batch)[0]


def gradient(module: Learner, batch: Batch) -> Tensor:
    """The gradient of :func:`loss`, all :func:`trained` parameters in one row, (P,)."""
    found = torch.autograd.grad(
        loss(module, batch), trained(module), allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found])


def hessian_products(module: Learner, batch: Batch) -> Callable[[Tensor], Tensor]:
    """The Hessian of the loss of a batch as a function from v to H v, (P,) to (P,).

    Pearlmutter (1994), "Fast exact multiplication by the Hessian": H v is the gradient of g . v, so
    one more backward pass, through the operations of the first. By hand these are the backwards
    that are written out in :mod:`manual_bp`. The graph of the first pass is kept and shared.
    """
    parameters = trained(module)
    first = torch.autograd.grad(
        loss(module, batch),
        parameters,
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    row = torch.cat([g.flatten() for g in first])

    def product(v: Tensor) -> Tensor:
        if not row.requires_grad:  # the loss is linear in the weights
            return torch.zeros_like(v)
        second = torch.autograd.grad(
            row, parameters, v, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return torch.cat([h.flatten() for h in second])

    return product
