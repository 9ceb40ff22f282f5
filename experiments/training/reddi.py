r"""A convex problem in one number on which Adam goes the wrong way.

At every step t the weight x pays f_t(x), and is kept in [-1, 1]::

    f_t(x) = C x   where t mod 3 = 1,   else  -x,   so  f_t'(x) = C or -1

Over three steps that is (C - 2) x, which for C > 2 is least at x = -1. With beta1 = 0 and
beta2 = 1 / (1 + C^2), Adam divides the rare large gradient by its own size and has forgotten it
when the two small ones come: they win, and x ends at +1, the worst place there is. AMSGrad divides
by the largest average so far, so that C counts C times as much as -1.

Reddi, Kale & Kumar 2018, "On the convergence of Adam and beyond", section 3, theorem 1.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_modules import Learner
from lightning_modules.data import InMemory
from lightning_modules.data.in_memory import Parts, Split
from lightning_modules.networks import Namespace


class Costs(InMemory):
    """The slopes of f_1, f_2, f_3, f_1 ..., one a batch.

    x: C or -1, (1, 1); y says nothing, (1,). All three parts are f_1 to f_3.

    Args:
        large: C, the slope of f_1.
        cycles: How often an epoch goes through the three.

    Raises:
        ValueError: cycles is not positive.
    """

    evaluation_batch_size = 3

    def __init__(self, large: float = 3.0, cycles: int = 200) -> None:
        super().__init__(batch_size=1, seed=None)
        if cycles < 1:
            raise ValueError(f"cycles must be positive, got {cycles}")
        self.save_hyperparameters(logger=False)
        self.large = large
        self.repeats = cycles

    def load(self) -> Parts:
        """Return the three slopes, three times."""
        part = Split(
            torch.tensor([[self.large], [-1.0], [-1.0]]), torch.zeros(3, dtype=torch.int64)
        )
        return Parts(part, part, part)


class Point(torch.nn.Sequential):
    """The number x, which starts at 0, as the weight of a layer: slopes (N, 1) to costs (N, 1).

    Args:
        nn: Where the layer comes from: ``torch.nn`` or ``manual_bp.nn``.
    """

    def __init__(self, nn: Namespace) -> None:
        x = nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(x.weight)
        super().__init__(x)


class Online(Learner):
    """Pays the mean cost of a batch, with the rate lr / sqrt(t) and x kept in [-1, 1]."""

    def loss_and_output(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean cost, and the costs."""
        costs = self(batch[0])
        return costs.mean(), costs

    def configure_optimizers(self) -> Any:
        """Build the optimizer; what follows each of its steps belongs to the step."""
        optimizer: torch.optim.Optimizer = super().configure_optimizers()
        for group in optimizer.param_groups:
            group.update(first_lr=group["lr"], t=1)  # in the group, so that a checkpoint has them
        optimizer.register_step_post_hook(_project)
        return optimizer


def _project(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        group["t"] += 1
        group["lr"] = group["first_lr"] / group["t"] ** 0.5
        with torch.no_grad():
            for x in group["params"]:
                x.clamp_(-1.0, 1.0)
