"""Callbacks that watch gradients, for any LightningModule."""

from lightning_modules.callbacks.gradient_diagnosis import GradientDiagnosis
from lightning_modules.callbacks.gradient_histograms import GradientHistograms
from lightning_modules.callbacks.gradient_norms import GradientNorms
from lightning_modules.callbacks.in_step import InStep
from lightning_modules.callbacks.trajectory import Trajectory

__all__ = ["GradientDiagnosis", "GradientHistograms", "GradientNorms", "InStep", "Trajectory"]
