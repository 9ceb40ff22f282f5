"""What a language model can do when it is trained: a text of its own, and where its loss lies."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.training.recording import Curves
from lightning_modules.data.characters import decode, encode


@torch.no_grad()
def write(
    network: torch.nn.Module,
    prompt: str,
    length: int,
    context: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> str:
    """Let a network write on, one character after the other, each drawn as it predicts.

    Args:
        network: Tokens (1, T), T <= context, to logits (1, T, V).
        prompt: What stands before; not empty.
        length: Characters to write.
        context: The longest sequence that the network takes.
        seed: Of the draws, which are made on the CPU.
        device: Where the network is.

    Returns:
        The prompt and what was written, which ends early where the prediction is not finite.
    """
    tokens = encode(prompt)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(length):
        logits = network(tokens[None, -context:].to(device))[0, -1].cpu()
        if not logits.isfinite().all():
            break
        drawn = torch.multinomial(logits.softmax(0), 1, generator=draws)
        tokens = torch.cat([tokens, drawn])
    return decode(tokens)


class Written(Curves):
    """Keeps what the trained network writes, and its loss by the place in the window.

    The curves are ``written`` (the code points of the text) and ``position/loss`` (cross-entropy on
    the validation part in nats a character, for the first place of a window, with one character to
    go by, to the last).

    Args:
        prompt: What the text begins with.
        length: Characters to write.

    Raises:
        ValueError: The prompt is empty, or the length negative.
    """

    def __init__(self, prompt: str = "The ", length: int = 160) -> None:
        super().__init__()
        if not prompt or length < 0:
            raise ValueError(
                f"prompt must not be empty and length not negative, got {prompt!r} and {length}"
            )
        self.prompt = prompt
        self.length = length
        self._found: dict[str, list[float]] = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the network."""
        module: Any = pl_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        network = module.network.eval()
        text = write(network, self.prompt, self.length, data.context, 0, pl_module.device)
        sums, windows = torch.zeros(data.context, dtype=torch.float64), 0
        for x, y in data.val_dataloader():
            sums += losses(network, x.to(pl_module.device), y.to(pl_module.device)).sum(0).cpu()
            windows += len(x)
        self._found = {
            "written": [float(ord(character)) for character in text],
            "position/loss": (sums / windows).tolist(),
        }
        network.train()

    def curves(self) -> dict[str, list[float]]:
        """All of it."""
        return self._found


@torch.no_grad()
def losses(network: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each target, nats: (N, T), float64."""
    logits = network(x)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), y, reduction="none").double()
