"""Models of plain torch.nn, as one finds them in tutorials."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Made = tuple[nn.Module, dict[str, Any]]


class Translator(nn.Module):
    """torch's own Transformer, with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(12, 2, 2, 2, 20, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, source: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1]).to(source)
        y = self.head(self.transformer(source, target, tgt_mask=causal))
        return F.cross_entropy(y.flatten(0, 1), labels.flatten())


def transformer() -> Made:
    labels = torch.randint(5, (2, 5))
    given = {"source": torch.randn(2, 7, 12), "target": torch.randn(2, 5, 12), "labels": labels}
    return Translator(), given


class Sequences(nn.Module):
    """An LSTM reads, another writes, attending to what was read: Bahdanau, Cho & Bengio (2014)."""

    def __init__(self, words: int = 11, size: int = 7) -> None:
        super().__init__()
        self.size = size
        self.words = nn.Embedding(words, 6)
        self.reader = nn.LSTM(6, size, 2, dropout=0.2, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(2 * size, size)
        self.writer = nn.LSTM(6, size, 2, dropout=0.2, batch_first=True)
        self.keys = nn.Linear(2 * size, size)
        self.head = nn.Linear(2 * size, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        read, state = self.reader(self.words(source))
        n = len(source)
        h, c = (s.view(2, 2, n, -1).permute(0, 2, 1, 3).reshape(2, n, -1) for s in state)
        state = torch.tanh(self.bridge(h)), self.bridge(c)
        written, _ = self.writer(self.words(target[:, :-1]), state)
        keys = self.keys(read)
        attention = torch.softmax(torch.bmm(written, keys.transpose(1, 2)) / self.size**0.5, -1)
        y = self.head(torch.cat([written, attention @ keys], -1))
        return F.cross_entropy(y.transpose(1, 2), target[:, 1:], label_smoothing=0.1)


def sequences() -> Made:
    return Sequences(), {
        "source": torch.randint(11, (3, 6)),
        "target": torch.randint(11, (3, 5)),
    }


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.GroupNorm(2, after),
        nn.SiLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Down and up again, with shortcuts: Ronneberger, Fischer & Brox (2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, 4), _block(4, 6)])
        self.bottom = _block(6, 8)
        self.transposed = nn.ConvTranspose2d(8, 6, 2, 2)
        self.up = nn.ModuleList([_block(12, 6), _block(10, 4)])
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        a = self.down[0](images)
        b = self.down[1](F.max_pool2d(a, 2))
        x = self.bottom(F.max_pool2d(b, 2))
        x = self.up[0](torch.cat([b, self.transposed(x)], 1))
        x = self.up[1](torch.cat([a, self.upsample(x)], 1))
        logits = self.head(x)
        p = logits.sigmoid()
        overlap = 2 * (p * masks).sum() / (p.sum() + masks.sum())  # Dice
        return F.binary_cross_entropy_with_logits(logits, masks) + 1 - overlap


def unet() -> Made:
    masks = (torch.rand(2, 2, 8, 12) > 0.5).float()
    return UNet(), {"images": torch.randn(2, 3, 8, 12), "masks": masks}


MODELS = (transformer, sequences, unet)
