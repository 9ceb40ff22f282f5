"""Models for the command line to find; one of them is asked for with a gradient that is wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.up(self.norm(x)))
        return x + nn.functional.dropout(self.down(h), 0.3, self.training)


class Net(nn.Module):
    """Dropout, running statistics, a tied weight, writing in place, a detour through float32."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.layers = nn.ModuleList([Block(), Block()])
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2).contiguous()
        x[:, 0] = 2 * x[:, 0]
        if mask is not None:
            x = x * mask
        return torch.softmax(self.head(x).float(), -1)


TOKENS = torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(2))


def with_inputs() -> tuple[nn.Module, Any]:
    return Net(), TOKENS


def with_named_inputs() -> tuple[nn.Module, Any]:
    return Net(), {"tokens": TOKENS, "mask": torch.ones(4, 5, 1)}


def restless() -> tuple[nn.Module, Any]:
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            return super().forward(x) * self.calls

    return Counting(3, 3), torch.ones(2, 3)


def not_a_model() -> str:
    return "a string"
