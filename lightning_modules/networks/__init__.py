"""Networks written once, against a namespace ``nn`` that is manual_bp.nn or torch.nn."""

from lightning_modules.networks.convnet import ConvNet
from lightning_modules.networks.gpt import GPT
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.namespace import Namespace
from lightning_modules.networks.recurrent import Recurrent
from lightning_modules.networks.residual_mlp import ResidualMLP
from lightning_modules.networks.resnet import ResNet
from lightning_modules.networks.shifting import ShiftingMLP

__all__ = [
    "GPT",
    "MLP",
    "ConvNet",
    "Namespace",
    "Recurrent",
    "ResNet",
    "ResidualMLP",
    "ShiftingMLP",
]
