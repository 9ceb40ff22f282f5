"""The characters of a text that every Python brings: the documentation inside pydoc."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from lightning_modules.data.in_memory import InMemory, Parts, Split

OTHER = "\N{REPLACEMENT CHARACTER}"
ALPHABET = "\n" + "".join(map(chr, range(32, 127))) + OTHER
"""The vocabulary: the end of a line, the printable characters of ASCII, and one for all others.

It is the same for every version of the text, and knows nothing of the test part.
"""


def pydoc_text() -> str:
    """The topics of ``help()``, in the order of their names: 465,048 characters in Python 3.11.

    It is the language reference of the Python that runs; a few sentences differ between versions.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(text: str) -> torch.Tensor:
    """The places of the characters in :data:`ALPHABET`, int64 (len(text),)."""
    table = np.full(128, len(ALPHABET) - 1)
    for i, character in enumerate(ALPHABET[:-1]):
        table[ord(character)] = i
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return torch.from_numpy(table[np.minimum(points, 127)])  # 127 is "delete": another one


def decode(tokens: torch.Tensor) -> str:
    """The characters at these places of :data:`ALPHABET`."""
    return "".join(ALPHABET[i] for i in tokens.tolist())


class Characters(InMemory):
    """A text, cut into windows; each character is to be predicted from those before it.

    The first eight tenths of the text are the training part, the ninth is the validation part, the
    last the test part: shuffled, a window would be tested between two that were trained on. A part
    is cut into windows that lie end to end: x holds ``context`` characters and y, one place on,
    those that follow each of them, so that every character of a part but the first is predicted
    once (up to ``context`` of them at its end are left over).

    x, y: int64 places in :data:`ALPHABET`, (N, context).

    Args:
        batch_size: Training windows in a batch. An evaluation takes 32,768 characters at once.
        context: Characters in a window.
        seed: Seed of the order of the windows.
        characters: How many of the text's characters are used; None for all of them.
        file: A text in UTF-8 to read instead of pydoc's.

    Raises:
        ValueError: An argument is out of range, a part is shorter than a window, or the file is not
            in UTF-8.
        OSError: The file is not there, or cannot be read.
    """

    def __init__(
        self,
        batch_size: int = 16,
        context: int = 32,
        seed: int = 0,
        characters: int | None = None,
        file: Path | str | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        for name, value in (("context", context), ("characters", characters)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.save_hyperparameters(logger=False)
        self.context = context
        self.characters = characters
        self.file = file
        self.evaluation_batch_size = max(1, 2**15 // context)

    @property
    def text(self) -> str:
        """The text, as far as it is used."""
        return self._whole()[: self.characters]

    def described(self) -> dict[str, list[float]]:
        """Which text it is.

        Returns:
            ``text/characters`` and ``text/symbols`` (how many, and how many different ones) and
            ``text/digest`` (the bytes of its SHA-256), as lists of numbers.
        """
        text = self.text
        digest = hashlib.sha256(text.encode()).digest()
        return {
            "text/characters": [float(len(text))],
            "text/symbols": [float(len(set(text)))],
            "text/digest": list(map(float, digest)),
        }

    @property
    def tokens(self) -> list[torch.Tensor]:
        """The three parts before they are cut into windows, int64 each."""
        tokens = encode(self.text)
        ends = [len(tokens) * tenths // 10 for tenths in (0, 8, 9, 10)]
        return [tokens[start:end] for start, end in pairwise(ends)]

    def load(self) -> Parts:
        """Return the three parts."""
        parts = self.tokens
        shortest = min(len(part) for part in parts)
        if shortest <= self.context:
            raise ValueError(
                f"context must be shorter than each part of the text, of which the shortest has "
                f"{shortest} characters, got {self.context}"
            )
        return Parts(*(self._windows(part) for part in parts))

    def _whole(self) -> str:
        if self.file is None:
            return pydoc_text()
        try:
            return Path(self.file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"file must be a text in UTF-8, got {self.file}: {error}") from error

    def _windows(self, tokens: torch.Tensor) -> Split:
        count = (len(tokens) - 1) // self.context
        x, y = (tokens[i : i + count * self.context].view(count, -1) for i in (0, 1))
        return Split(x, y)
