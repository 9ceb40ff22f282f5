"""The networks that explain() is tried on, small and in float64."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks import GPT, MLP, ResNet

Step = tuple[nn.Module, tuple[Any, ...], Any, Callable[..., Tensor]]


class LSTM(nn.Module):
    """Two layers and a read-out of the last step."""

    def __init__(self, layers: ModuleType) -> None:
        super().__init__()
        self.lstm = layers.LSTM(3, 4, 2, batch_first=True, dropout=0.2)
        self.output = layers.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.lstm(x)[0][:, -1])


def mlp(layers: ModuleType) -> Step:
    model = MLP(layers, 6, (5, 4), 3, "GELU", "BatchNorm1d", dropout=0.3)
    return model, (torch.randn(7, 6),), torch.randint(3, (7,)), F.cross_entropy


def resnet(layers: ModuleType) -> Step:
    model = ResNet(layers, channels=(3, 4), blocks=(1, 2), classes=5)
    return model, (torch.randn(2, 1, 8, 6),), torch.tensor([1, 3]), F.cross_entropy


def lstm(layers: ModuleType) -> Step:
    return LSTM(layers), (torch.randn(2, 5, 3),), torch.tensor([0, 2]), F.cross_entropy


def gpt(layers: ModuleType) -> Step:
    model = GPT(layers, tokens=11, context=6, width=8, heads=2, blocks=2, dropout=0.1)
    tokens = torch.randint(11, (2, 6))
    return model, (tokens[:, :-1],), tokens[:, 1:], _of_sequences


def _of_sequences(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


NETWORKS = {"mlp": mlp, "resnet": resnet, "lstm": lstm, "gpt": gpt}


def made(build: Callable[[ModuleType], Step], layers: ModuleType = nn) -> Step:
    """A network with its batch, always the same, in float64."""
    torch.manual_seed(0)
    model, inputs, target, loss = build(layers)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    return model.double(), inputs, target, loss
