"""Data that need no download, held in memory and batched by tensor operations."""

from lightning_modules.data.adding import Adding
from lightning_modules.data.characters import Characters
from lightning_modules.data.digits import Digits
from lightning_modules.data.in_memory import InMemory
from lightning_modules.data.mnist5k import MNIST5k
from lightning_modules.data.noisy_digits import NoisyDigits
from lightning_modules.data.sunspots import Sunspots
from lightning_modules.data.xor import XOR

__all__ = [
    "XOR",
    "Adding",
    "Characters",
    "Digits",
    "InMemory",
    "MNIST5k",
    "NoisyDigits",
    "Sunspots",
]
