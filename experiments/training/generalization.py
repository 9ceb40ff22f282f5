"""What a network makes of images that it has seen, and of others."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training import whole
from experiments.training.recording import Curves, stacked
from lightning_modules.data import NoisyDigits
from lightning_modules.data.in_memory import Split
from lightning_modules.learner import Learner


class Generalization(Curves):
    """Measures a classifier on its training and its test part, after each validation.

    The curves, one number each time, in evaluation mode (without dropout):

    - ``seen/loss``: on the rightly labelled images of the training part;
    - ``unseen/loss`` and ``unseen/accuracy``: on the test part, whose labels are all right, so that
      the difference of the two losses is the gap between what was seen and what was not;
    - ``memorised``: share of the wrong labels that the network reproduces (a network that has
      learned nothing but digits reproduces about one in twenty of them); NaN where none is wrong;
    - ``length``: Euclidean length of all weights and biases.

    The test part is only looked at; nothing is chosen by it. The data module is a
    :class:`lightning_modules.data.NoisyDigits`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, list[Tensor]] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure."""
        if trainer.sanity_checking:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, NoisyDigits) and isinstance(pl_module, Learner)
        train, _, test = data.parts
        wrong = data.mislabelled
        with torch.no_grad():  # validation has put the module into evaluation mode
            right = self._measure(pl_module, Split(train.x[~wrong], train.y[~wrong]))
            unseen = self._measure(pl_module, test)
            fooled = self._measure(pl_module, Split(train.x[wrong], train.y[wrong]))
            squares = [p.square().sum() for p in pl_module.parameters()]
        self._keep("seen/loss", right["loss"])
        self._keep("unseen/loss", unseen["loss"])
        self._keep("unseen/accuracy", unseen["accuracy"])
        self._keep("memorised", fooled["accuracy"])
        self._keep("length", torch.stack(squares).sum().sqrt())

    def curves(self) -> dict[str, list[float]]:
        """All of it, on the host."""
        return {name: stacked(numbers).tolist() for name, numbers in self._kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept so far."""
        return {name: stacked(numbers) for name, numbers in self._kept.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._kept = {name: list(numbers.unbind()) for name, numbers in state_dict.items()}

    def _measure(self, module: Learner, part: Split) -> dict[str, Tensor]:
        batch = whole.placed(part, module)
        loss, logits = module.loss_and_output(batch)
        return {"loss": loss, **module.score(logits, batch)}

    def _keep(self, name: str, value: Tensor) -> None:
        self._kept.setdefault(name, []).append(value.double())
