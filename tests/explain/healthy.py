"""Networks with nothing wrong: the diagnosis has to stay silent on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.networks import MLP, ResNet
from manual_bp.explain.loss import loss_of

Batch = tuple[Tensor, Tensor]


@dataclass
class Healthy:
    """A network, its data and its optimizer.

    Attributes:
        model: The network.
        batch: Draws a batch, input and target.
        optimizer: At a rate that suits it.
        loss: None for the default.
    """

    model: nn.Module
    batch: Callable[[], Batch]
    optimizer: torch.optim.Optimizer
    loss: Callable[..., Tensor] | None = None

    def compute(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch."""
        return loss_of(self.model(x), y, self.loss)


def _clusters(*shape: int, classes: int = 10, count: int = 32) -> Callable[[], Batch]:
    """Classes with a centre each, and noise around it."""
    centres = torch.randn(classes, *shape)

    def draw() -> Batch:
        y = torch.randint(classes, (count,))
        x = centres[y] + 0.7 * torch.randn(count, *shape)
        return x / 1.22, y

    return draw


def _waves(steps: int = 12, count: int = 16) -> Callable[[], Batch]:
    """The next value of a sine of unknown phase and frequency."""

    def draw() -> Batch:
        phase, rate = torch.rand(count, 1) * 6.28, 0.3 + 0.5 * torch.rand(count, 1)
        t = torch.arange(steps + 1.0)
        wave = torch.sin(phase + rate * t) * 1.4
        return wave[:, :-1, None], wave[:, 1:, None]

    return draw


def mlp_relu() -> Healthy:
    model = MLP(nn, 20, (64, 64, 64))
    return Healthy(model, _clusters(20), torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))


def mlp_tanh() -> Healthy:
    model = MLP(nn, 20, (64, 64, 64, 64), activation="Tanh")
    return Healthy(model, _clusters(20), torch.optim.SGD(model.parameters(), lr=0.1))


def mlp_gelu_dropout() -> Healthy:
    model = MLP(nn, 20, (128, 128), activation="GELU", normalization="LayerNorm", dropout=0.2)
    return Healthy(model, _clusters(20), torch.optim.AdamW(model.parameters(), lr=3e-3))


def mlp_sigmoid() -> Healthy:
    model = MLP(nn, 20, (64,), activation="Sigmoid")
    return Healthy(model, _clusters(20), torch.optim.Adam(model.parameters(), lr=1e-2))


def resnet() -> Healthy:
    model = ResNet(nn, channels=(8, 16), blocks=(2, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return Healthy(model, _clusters(1, 8, 8), optimizer)


def convolutional() -> Healthy:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    return Healthy(model, _clusters(1, 8, 8), torch.optim.Adam(model.parameters(), lr=1e-3))


class Recurrent(nn.Module):
    """A recurrent layer and a read-out at every step."""

    def __init__(self, layer: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.layer, self.output = layer, nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layer(x)[0])


def lstm() -> Healthy:
    model = Recurrent(nn.LSTM(1, 24, num_layers=2, batch_first=True), 24)
    return Healthy(model, _waves(), torch.optim.Adam(model.parameters(), lr=3e-3))


def gru() -> Healthy:
    model = Recurrent(nn.GRU(1, 24, batch_first=True, bidirectional=True), 48)
    return Healthy(model, _waves(), torch.optim.RMSprop(model.parameters(), lr=1e-3))


def rnn() -> Healthy:
    model = Recurrent(nn.RNN(1, 24, batch_first=True), 24)
    return Healthy(model, _waves(), torch.optim.SGD(model.parameters(), lr=0.05))


class Block(nn.Module):
    """A pre-norm Transformer block, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        mask = torch.ones(t, t, dtype=torch.bool).triu(1)
        attention = scores.masked_fill(mask, float("-inf")).softmax(-1)
        x = x + self.project((attention @ v).transpose(1, 2).reshape(n, t, width))
        return x + self.dropout(self.down(nn.functional.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """A small decoder with tied embeddings."""

    def __init__(self, vocabulary: int = 16, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(16, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def gpt() -> Healthy:
    model = GPT()
    table = torch.randint(16, (16,))

    def draw() -> Batch:
        x = torch.randint(16, (8, 16))
        return x, table[x]

    return Healthy(model, draw, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))


def encoder() -> Healthy:
    model = nn.Sequential(
        nn.Linear(6, 32),
        nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True),
        nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True),
        nn.Flatten(),
        nn.Linear(160, 10),
    )
    return Healthy(model, _clusters(5, 6), torch.optim.Adam(model.parameters(), lr=1e-3))


def autoencoder() -> Healthy:
    model = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU(),
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 20),
    )  # fmt: skip
    draw = _clusters(20)

    def pair() -> Batch:
        x, _ = draw()
        return x, x

    return Healthy(model, pair, torch.optim.Adam(model.parameters(), lr=3e-3))


def logistic_regression() -> Healthy:
    model = nn.Linear(20, 1)
    draw = _clusters(20, classes=2)

    def pair() -> Batch:
        x, y = draw()
        return x, y[:, None].float()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=1e-4)
    loss = nn.functional.binary_cross_entropy_with_logits
    return Healthy(model, pair, optimizer, loss)


def classifier_with_probabilities() -> Healthy:
    """A sigmoid at the output saturates when it is sure of itself; that is what it is for."""
    model = nn.Sequential(nn.Linear(20, 32), nn.SiLU(), nn.Linear(32, 1), nn.Sigmoid())
    draw = _clusters(20, classes=2)

    def pair() -> Batch:
        x, y = draw()
        return x, y[:, None].float()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return Healthy(model, pair, optimizer, nn.functional.binary_cross_entropy)


def unrolled_cell() -> Healthy:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.output = nn.GRUCell(1, 24), nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            h, outputs = x.new_zeros(len(x), 24), []
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
                outputs.append(self.output(h))
            return torch.stack(outputs, 1)

    model = Unrolled()
    return Healthy(model, _waves(), torch.optim.Adam(model.parameters(), lr=3e-3))


NETWORKS = (
    mlp_relu, mlp_tanh, mlp_gelu_dropout, mlp_sigmoid, resnet, convolutional, lstm, gru, rnn, gpt,
    encoder, autoencoder, logistic_regression, classifier_with_probabilities, unrolled_cell,
)  # fmt: skip
