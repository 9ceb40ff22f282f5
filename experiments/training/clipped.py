"""What clipping does to a gradient: how long it is before and after, and how far it is turned."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training.recording import Curves, stacked


class Clipped(Curves):
    """Keeps, at every step, the gradient's length before and after clipping, and the angle between.

    The curves are ``clip/before``, ``clip/after`` (Euclidean lengths of all parameters' gradients
    taken as one vector) and ``clip/angle`` (degrees); NaN where a gradient is zero or not finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = torch.zeros(0)
        self._rows: list[Tensor] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Copy the gradient as the backward pass left it; clipping comes next."""
        self._before = _gradient(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Compare it with what the optimizer used, which is still in place."""
        if not len(self._before):  # the gradients of several batches are accumulated
            return
        before, after = self._before, _gradient(pl_module)
        self._before = torch.zeros(0)
        self._rows.append(torch.stack([before.norm(), after.norm(), angle(before, after)]))

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        columns = stacked(self._rows).reshape(-1, 3).T.tolist()
        return dict(zip(("clip/before", "clip/after", "clip/angle"), columns, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {"rows": stacked(self._rows)} if self._rows else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._rows = list(state_dict["rows"].unbind()) if state_dict else []


def angle(one: Tensor, other: Tensor) -> Tensor:
    """The angle between two vectors in degrees, a scalar.

    As 2 atan(|u - v| / |u + v|) of the two unit vectors: an arc cosine sees nothing below a
    millionth of a degree (Kahan 2006, "How Futile are Mindless Assessments of Roundoff", section
    12).
    """
    u, v = one / one.norm(), other / other.norm()
    return torch.rad2deg(2 * torch.atan2((u - v).norm(), (u + v).norm()))


def _gradient(module: pl.LightningModule) -> Tensor:
    """All parameters' gradients as one vector, copied."""
    return torch.cat([p.grad.detach().flatten() for p in module.parameters() if p.grad is not None])
