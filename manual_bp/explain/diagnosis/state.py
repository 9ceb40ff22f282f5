"""Leave everything as it was: random numbers, buffers, gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["untouched"]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back the random state, and the model's buffers and gradients, at the end.

    BatchNorm's running statistics move in every forward pass, dropout draws. Parameters are left
    to the caller, who does not change them; Python attributes of the model's own are not known.
    """
    devices = {t.device.index for t in model.parameters() if t.device.type == "cuda"}
    buffers = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    # Copies in their place: writing the old numbers back would spoil a graph that still needs them.
    copies: dict[int, Tensor] = {}
    for module, name, buffer in buffers:
        module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
    gradients: list[tuple[Tensor, Tensor | None]] = [(p, p.grad) for p in model.parameters()]
    state = random.getstate()
    with torch.random.fork_rng(devices=[d for d in devices if d is not None]):
        try:
            yield
        finally:
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            for parameter, gradient in gradients:
                parameter.grad = gradient
            random.setstate(state)
