"""Language models that only count: what the last few characters alone tell of the next.

The probability of a symbol s after a context c of n symbols is the share of the training text's c
that were followed by s, drawn towards the estimate from a context that is one symbol shorter::

    p(s | c) = (count(c s) + k p(s | c without its first)) / (count(c) + k)

down to p(s) = 1/V, which knows nothing. That is the mean of a Dirichlet posterior (MacKay & Peto
1995, "A hierarchical Dirichlet language model", section 3); k is chosen for each n on the
validation part. Each model is exact: nothing is trained.
"""

from typing import Any

import numpy as np
import pytorch_lightning as pl

from experiments.training.recording import Curves
from experiments.trial import Array
from lightning_modules.data.characters import ALPHABET, Characters

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""The k that are tried."""


def grams(tokens: Array, length: int, symbols: int) -> Array:
    """The runs of ``length`` tokens as one number each, in order: int64 (len(tokens) - length + 1).

    Args:
        tokens: Places in the vocabulary, int64 (N,).
        length: Up to nine for a vocabulary of a hundred; 0 gives N + 1 zeros.
        symbols: Size of the vocabulary.
    """
    codes = np.zeros(len(tokens) - length + 1, dtype=np.int64)
    for i in range(length):
        codes = codes * symbols + tokens[i : i + len(codes)]
    return codes


def counted(of: Array, among: Array) -> Array:
    """How often each of ``of`` occurs in ``among``, float64."""
    known, counts = np.unique(among, return_counts=True)
    at = np.minimum(np.searchsorted(known, of), len(known) - 1)
    return np.where(known[at] == of, counts[at], 0).astype(np.float64)


def cross_entropies(
    train: Array, validation: Array, test: Array, symbols: int, longest: int
) -> Array:
    """The cross-entropy of each model on the test part, in nats a symbol.

    Args:
        train: Places in the vocabulary, int64 (N,).
        validation: The same; for the choice of k.
        test: The same.
        symbols: Size of the vocabulary.
        longest: The longest context.

    Returns:
        One number for each length of the context from 0 on, float64 (longest + 1,). The first
        ``longest`` symbols of the test part, which not every model could predict, are left out.
    """
    parts = (validation, test)
    before = [np.full(len(part) - longest, 1.0 / symbols) for part in parts]
    found = []
    for n in range(longest + 1):
        contexts, followed = grams(train[:-1], n, symbols), grams(train, n + 1, symbols)
        seen = []
        for part in parts:
            asked = grams(part[longest - n :], n + 1, symbols)
            seen.append((counted(asked, followed), counted(asked // symbols, contexts)))

        def model(k: float, i: int, seen: Any = seen, before: Any = before) -> Array:
            both, context = seen[i]
            p: Array = (both + k * before[i]) / (context + k)
            return p

        k = min(STRENGTHS, key=lambda k: -float(np.mean(np.log(model(k, 0)))))
        before = [model(k, i) for i in range(2)]
        found.append(-float(np.mean(np.log(before[1]))))
    return np.array(found)


class Ngrams(Curves):
    """Keeps, for the text of the fit, what the counting models reach, and which text it was.

    The curves are ``ngrams/loss`` (cross-entropy on the test part in nats a character, by the
    length of the context from 0 on), ``text/characters`` and ``text/symbols`` (one number each) and
    ``text/digest`` (the bytes of its SHA-256).

    Args:
        longest: The longest context, up to 8 characters: nine of them still fit into an int64.

    Raises:
        ValueError: longest does not lie in 0..8.
    """

    def __init__(self, longest: int = 5) -> None:
        super().__init__()
        if not 0 <= longest <= 8:
            raise ValueError(f"longest must lie in 0..8, got {longest}")
        self.longest = longest
        self._found: dict[str, list[float]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count; a fit that is resumed counts again."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, Characters)
        train, validation, test = (tokens.numpy() for tokens in data.tokens)
        losses = cross_entropies(train, validation, test, len(ALPHABET), self.longest)
        self._found = {"ngrams/loss": losses.tolist(), **data.described()}

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return self._found
