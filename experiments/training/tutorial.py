"""The tutorial's XOR network, and a plain loop that trains it.

A thousand steps on four points take Lightning most of a second and a loop a third of that, which
counts over a hundred trainings. The loop reads the same configuration, and takes the same steps.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import manual_bp
import manual_bp.nn
import manual_bp.optim
from experiments.published import HIDDEN, STEPS, draws
from experiments.trial import Array, Outcome
from lightning_modules.comparison import Comparison
from lightning_modules.data import XOR
from lightning_modules.networks import Namespace


class Tutorial(torch.nn.Sequential):
    """Linear 2-4, ReLU, Linear 4-1; the sigmoid is in the loss (BCEWithLogitsLoss).

    Weights are N(0, 1) * 0.1 from NumPy's stream, biases zero; (N, 2) to logits (N, 1).

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        seed: NumPy's seed.
    """

    def __init__(self, nn: Namespace, seed: int = 42) -> None:
        # float64 from the start: the draws must not pass through float32.
        hidden = nn.Linear(2, HIDDEN, dtype=torch.float64)
        output = nn.Linear(HIDDEN, 1, dtype=torch.float64)
        with torch.no_grad():
            for layer, weight in zip((hidden, output), draws(seed), strict=True):
                layer.weight.copy_(torch.from_numpy(weight.T))
                layer.bias.zero_()
        super().__init__()
        self.hidden, self.relu, self.output = hidden, nn.ReLU(), output


class Loop:
    """One training: the network, its loss and its optimizer, by hand or by autograd."""

    def __init__(self, model: dict[str, Any], manual: bool) -> None:
        nn: Namespace = manual_bp.nn if manual else torch.nn
        optim: Any = manual_bp.optim if manual else torch.optim
        self.manual = manual
        self.network = Tutorial(nn, **model["network"]["init_args"])
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer = optim.SGD(self.network.parameters(), **model["optimizer"]["init_args"])
        self.names = [name for name, _ in self.network.named_parameters()][::-1]

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss, and what reached the hidden units."""
        with manual_bp.by_hand() if self.manual else nullcontext():
            on = self.network.hidden(x)
            loss = self.criterion(self.network.output(self.network.relu(on)), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, on.detach()

    @property
    def parameters(self) -> Sequence[Tensor]:
        """The parameters, as the backward pass reaches them."""
        return list(self.network.parameters())[::-1]

    @property
    def gradients(self) -> list[Tensor]:
        """Their gradients."""
        return [g for p in self.parameters if (g := p.grad) is not None]


def train(config: Path, checkpoint: Path | None = None) -> Outcome:
    """Train without Lightning what ``fit --config`` trains with it.

    It takes less than a second, so it saves no checkpoint.

    Returns:
        The curves ``train/loss``, ``gradient`` (its Euclidean length) and ``unit1`` ... ``unit4``
        (for how many of the four inputs the hidden unit is on), one number a step; where both
        were trained in step, those of :class:`Record` too; the metrics of the trained network.
    """
    torch.set_num_threads(1)
    model = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["init_args"]
    kind = model["backprop"]
    loops = [
        Loop(model, manual) for manual in ((True, False) if kind == "both" else (kind == "manual",))
    ]
    first, twin = loops[0], loops[-1] if len(loops) == 2 else None
    x, labels = XOR().parts.train
    x, y = x.double(), labels.double().unsqueeze(1)

    comparison = Comparison(first.names, torch.float64)
    all_by_hand = None
    losses, gradients, units, theirs = [], [], [], []
    for step in range(STEPS):
        loss, on = first.step(x, y)
        if first.manual and step == 0:
            all_by_hand = manual_bp.audit(loss).all_by_hand
        losses.append(loss.detach())
        gradients.append(torch.cat([g.flatten() for g in first.gradients]).norm())
        units.append((on > 0).sum(0))
        if twin is not None:
            other, _ = twin.step(x, y)
            theirs.append(other.detach())
            comparison.add(
                step,
                (loss, other),
                (first.gradients, twin.gradients),
                (first.parameters, twin.parameters),
            )

    with torch.no_grad():
        logits = first.network(x)
        final = first.criterion(logits, y)
    comparison.flush()
    curves = {
        "train/loss": torch.stack(losses).tolist(),
        "gradient": torch.stack(gradients).tolist(),
        **{
            f"unit{i}": column.double().tolist()
            for i, column in enumerate(torch.stack(units, dim=1), start=1)
        },
    }
    if twin is not None:
        curves |= {"autograd/loss": torch.stack(theirs).tolist(), "error/loss": comparison.losses}
    metrics = {
        "test/loss": final.item(),
        "test/accuracy": ((logits > 0) == (y > 0)).double().mean().item(),
    }
    return Outcome(
        metrics,
        curves,
        all_by_hand,
        _weights(first),
        compared=comparison.summary() if twin else None,
        autograd_weights=_weights(twin) if twin else {},
    )


def _weights(loop: Loop) -> dict[str, Array]:
    named = loop.network.named_parameters()
    return {f"network.{name}": p.detach().numpy() for name, p in named}
