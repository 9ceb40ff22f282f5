"""The random numbers that a training step draws, remembered so that they can be drawn again."""

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> tuple[Any, ...]:
    """The state of the generators of Python, of NumPy, of torch and of the device."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def set_random_state(device: torch.device, state: tuple[Any, ...]) -> None:
    """Go back to a state that :func:`random_state` returned for the same device."""
    python, numpy, cpu, cuda = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
