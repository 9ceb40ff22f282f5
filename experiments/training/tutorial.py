"""The tutorial's XOR network, and a plain loop that trains it.

A thousand steps on four points take Lightning most of a second and a loop a third of that, which
counts over a hundred trainings. The loop reads the same configuration, and takes the same steps.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml

import manual_bp
import manual_bp.nn
import manual_bp.optim
from experiments.published import HIDDEN, STEPS, draws
from experiments.trial import Outcome
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


def train(config: Path) -> Outcome:
    """Train without Lightning what ``fit --config`` trains with it.

    Returns:
        The curves ``train/loss``, ``gradient`` (its Euclidean length) and ``unit1`` ... ``unit4``
        (for how many of the four inputs the hidden unit is on), one number a step; the metrics of
        the trained network.
    """
    torch.set_num_threads(1)
    model = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]["init_args"]
    manual = model["backprop"] == "manual"
    nn: Namespace = manual_bp.nn if manual else torch.nn
    network = Tutorial(nn, **model["network"]["init_args"])
    criterion = nn.BCEWithLogitsLoss()
    optim: Any = manual_bp.optim if manual else torch.optim
    optimizer = optim.SGD(network.parameters(), **model["optimizer"]["init_args"])
    x, labels = XOR().parts.train
    x, y = x.double(), labels.double().unsqueeze(1)

    all_by_hand = None
    losses, gradients, units = [], [], []
    for step in range(STEPS):
        with manual_bp.by_hand() if manual else nullcontext():
            on = network.hidden(x)
            loss = criterion(network.output(network.relu(on)), y)
        if manual and step == 0:
            all_by_hand = manual_bp.audit(loss).all_by_hand
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(
            torch.cat(
                [g.flatten() for p in network.parameters() if (g := p.grad) is not None]
            ).norm()
        )
        units.append((on.detach() > 0).sum(0))
        optimizer.step()

    with torch.no_grad():
        logits = network(x)
        final = criterion(logits, y)
    curves = {
        "train/loss": torch.stack(losses).tolist(),
        "gradient": torch.stack(gradients).tolist(),
        **{
            f"unit{i}": column.double().tolist()
            for i, column in enumerate(torch.stack(units, dim=1), start=1)
        },
    }
    metrics = {
        "test/loss": final.item(),
        "test/accuracy": ((logits > 0) == (y > 0)).double().mean().item(),
    }
    weights = {f"network.{name}": p.detach().numpy() for name, p in network.named_parameters()}
    return Outcome(metrics, curves, all_by_hand, weights)
