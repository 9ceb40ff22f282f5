"""A multilayer perceptron whose normalized values are disturbed again, at every step anew."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.namespace import Namespace


class ShiftingMLP(MLP):
    """An MLP that takes back the steadiness that its normalization has brought.

    After the normalization each unit is scaled and shifted by random numbers, the same for the
    whole batch and others at every training step. What a unit receives thus jumps from step to
    step, as in the experiment of Santurkar et al. 2018 (arXiv:1805.11604, section 2.1), who asked
    whether BatchNorm helps because it keeps these distributions steady; the noise of each sample
    that they add besides is left out. Evaluation is undisturbed.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        shift: Shifts are uniform in ±shift.
        scale: Scales are uniform between 1 and scale.
        arguments: Those of :class:`MLP`; its layers ``norm1``, ``norm2`` ... are what is disturbed.

    Raises:
        ValueError: ``shift`` is negative, ``scale`` is below 1, there is no normalization to take
            back, or MLP refuses its arguments.
    """

    def __init__(
        self, nn: Namespace, shift: float = 1.0, scale: float = 1.25, **arguments: Any
    ) -> None:
        if not (shift >= 0 and scale >= 1):
            raise ValueError(
                f"shift must not be negative and scale at least 1, got {shift} and {scale}"
            )
        super().__init__(nn, **arguments)
        if not any(name.startswith("norm") for name, _ in self.named_children()):
            raise ValueError(
                "normalization must name a layer and hidden a width: nothing to disturb"
            )
        self.shift, self.scale = shift, scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the inputs x."""
        for name, child in self.named_children():
            x = child(x)
            if self.training and name.startswith("norm"):
                x = self._disturbed(x)
        return x

    def _disturbed(self, x: Tensor) -> Tensor:
        shifts, scales = torch.rand(2, x.shape[1], dtype=x.dtype, device=x.device)
        return x * (1 + (self.scale - 1) * scales) + self.shift * (2 * shifts - 1)
