"""Lightning modules, networks, data and callbacks: training by hand or by autograd."""

from lightning_modules.classifier import Classifier
from lightning_modules.language_model import LanguageModel
from lightning_modules.learner import Learner
from lightning_modules.sequence_regressor import SequenceRegressor

__all__ = ["Classifier", "LanguageModel", "Learner", "SequenceRegressor"]
