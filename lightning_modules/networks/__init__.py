"""Networks written once, against a namespace ``nn`` that is manual_bp.nn or torch.nn."""

from lightning_modules.networks.gpt import GPT
from lightning_modules.networks.mlp import MLP
from lightning_modules.networks.namespace import Namespace
from lightning_modules.networks.resnet import ResNet

__all__ = ["GPT", "MLP", "Namespace", "ResNet"]
