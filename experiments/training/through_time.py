"""What happens to a gradient on its way back through time, and what truncating it leaves."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training import whole
from experiments.training.recording import Curves
from lightning_modules.sequence_regressor import SequenceRegressor

SAMPLES = 64


class ThroughTime(Curves):
    """Looks at the gradient through time before the first step and after the last.

    On the first 64 sequences of the validation part, of a
    :class:`lightning_modules.SequenceRegressor` with a
    :class:`~lightning_modules.networks.Recurrent` that answers at the end, of T steps. The curves,
    each once as ``.../start`` and once as ``.../end``, are

    - ``state``: the length of dL/dh_t, t = 0 ... T, over that of dL/dh_T (of h and c together for
      an LSTM);
    - ``truncated/error`` and ``truncated/cosine``: the gradient of all parameters truncated to k
      steps against the full one, for each k asked for: length of the difference over that of the
      full one, and cosine of the angle;
    - ``truncated/agreement``: the largest relative difference of that gradient by hand and by
      autograd, where both are trained in step.

    Args:
        lengths: The k of the truncated gradients.
    """

    def __init__(self, lengths: Sequence[int] = (1, 2, 4, 8, 16)) -> None:
        super().__init__()
        self.lengths = tuple(lengths)
        self._kept: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the first weights; a fit that goes on from a checkpoint has done so."""
        if not self._kept:
            self._look(trainer, pl_module, "start")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the last weights."""
        self._look(trainer, pl_module, "end")

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        return {name: numbers.tolist() for name, numbers in self._kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {name: numbers.cpu() for name, numbers in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = dict(state_dict)

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule, when: str) -> None:
        assert isinstance(module, SequenceRegressor)
        part = trainer.datamodule.parts.validation  # type: ignore[attr-defined]
        like = next(module.parameters())
        x, y = (tensor[:SAMPLES].to(like) for tensor in part)
        self._kept[f"state/{when}"] = through_states(module, x, y)
        full = truncated(module, x, y, None)
        found = [truncated(module, x, y, k) for k in self.lengths]
        self._kept[f"truncated/error/{when}"] = torch.stack(
            [(g - full).norm() / full.norm() for g in found]
        )
        self._kept[f"truncated/cosine/{when}"] = torch.stack(
            [g @ full / (g.norm() * full.norm()) for g in found]
        )
        if module.backprop == "both":
            twin: Any = module.counterpart()
            others = [truncated(twin, x, y, k) for k in self.lengths]
            self._kept[f"truncated/agreement/{when}"] = torch.stack(
                [(g - h).norm() / h.norm() for g, h in zip(found, others, strict=True)]
            )


def through_states(module: SequenceRegressor, x: Tensor, y: Tensor) -> Tensor:
    """The length of dL/dh_t over that of dL/dh_T, (T + 1,), for sequences x and targets y."""
    unrolled: Any = module.network.unrolled
    with module.differentiation():
        answer, states = unrolled(x)
        loss = module.loss(answer, y)
    flat = [part for state in states for part in state]
    # The answer reads h alone: what an LSTM's last c got is zero.
    found = torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True)
    parts = len(states[0])
    lengths = torch.stack([g.norm() for g in found]).reshape(-1, parts).norm(dim=1)
    return lengths / lengths[-1]


def truncated(module: SequenceRegressor, x: Tensor, y: Tensor, steps: int | None) -> Tensor:
    """The gradient of all parameters in one row, (P,), truncated to so many steps; None for all."""
    with module.differentiation():
        loss = module.loss(module.network(x, steps), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, whole.trained(module))])
