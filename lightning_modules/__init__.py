"""Lightning modules, networks, data and callbacks: training by hand or by autograd."""

from lightning_modules.classifier import Classifier

__all__ = ["Classifier"]
