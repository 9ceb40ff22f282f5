"""Callbacks that watch a training, for any LightningModule."""

from lightning_modules.callbacks.activations import Activations
from lightning_modules.callbacks.gradient_diagnosis import GradientDiagnosis
from lightning_modules.callbacks.gradient_flow import GradientFlow
from lightning_modules.callbacks.gradient_histograms import GradientHistograms
from lightning_modules.callbacks.gradient_norms import GradientNorms
from lightning_modules.callbacks.in_step import InStep
from lightning_modules.callbacks.trajectory import Trajectory
from lightning_modules.callbacks.update_ratios import UpdateRatios

__all__ = [
    "Activations",
    "GradientDiagnosis",
    "GradientFlow",
    "GradientHistograms",
    "GradientNorms",
    "InStep",
    "Trajectory",
    "UpdateRatios",
]
