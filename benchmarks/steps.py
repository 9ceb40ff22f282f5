"""Whole training steps, by hand over autograd: forward, backward and the optimizer's update.

Run it with ``make bench`` or ``python -m benchmarks.steps``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import manual_bp
import manual_bp.optim
from lightning_modules.networks import MLP, ResNet
from manual_bp.bench import Cost, compare

Network = Callable[[ModuleType], torch.nn.Module]


def mlp(*widths: int) -> Network:
    """A plain ReLU network."""
    return lambda nn: MLP(nn, in_features=widths[0], hidden=widths[1:-1], out_features=widths[-1])


def resnet(*channels: int) -> Network:
    """Two residual blocks a stage."""
    return lambda nn: ResNet(nn, in_channels=3, channels=channels, blocks=(2,) * len(channels))


def step(network: Network, x: Tensor, y: Tensor, by_hand: bool) -> Callable[[], Any]:
    """One training step, on either side; both start from the same weights."""
    torch.manual_seed(0)
    nn: ModuleType = manual_bp.nn if by_hand else torch.nn
    optim: ModuleType = manual_bp.optim if by_hand else torch.optim
    model = network(nn)
    loss_function = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def run() -> Tensor:
        context: AbstractContextManager[Any] = manual_bp.by_hand() if by_hand else nullcontext()
        with context:
            loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return run


def costs(rounds: int = 9) -> Iterator[Cost]:
    """Measure every case in turn."""
    cases: dict[str, tuple[Network, tuple[int, ...], int]] = {
        "MLP 64-64-10, batch 64": (mlp(64, 64, 10), (64,), 64),
        "MLP 784-512-512-10, batch 128": (mlp(784, 512, 512, 10), (784,), 128),
        "MLP 1024-2048-2048-10, batch 256": (mlp(1024, 2048, 2048, 10), (1024,), 256),
        "ResNet 16-32, 3x16x16, batch 32": (resnet(16, 32), (3, 16, 16), 32),
        "ResNet 16-32-64, 3x32x32, batch 32": (resnet(16, 32, 64), (3, 32, 32), 32),
    }
    for name, (network, shape, batch) in cases.items():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *shape, generator=generator)
        y = torch.randint(10, (batch,), generator=generator)
        yield compare(name, step(network, x, y, True), step(network, x, y, False), rounds)


def main() -> None:
    """Print a line for each case as it is done."""
    print(f"{'training step':<36}{'by hand ms':>11}{'autograd ms':>13}{'time':>7}{'memory':>8}")
    for cost in costs():
        print(
            f"{cost.name:<36}{cost.manual * 1e3:>11.3f}{cost.native * 1e3:>13.3f}"
            f"{cost.ratio:>7.2f}{cost.memory_ratio:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
