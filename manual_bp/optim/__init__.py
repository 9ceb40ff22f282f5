"""Update rules written by hand: the mirror of ``torch.optim``.

Backprop ends where the gradient is known; the rules here are what is done with it. Each file
holds one rule, and each rule stands there twice:

* ``formula`` is the mathematics of the paper, line by line, for one parameter. ``foreach=False``
  trains with it.
* ``in_place`` is the same rule over lists of parameters, written so that nothing is allocated
  that need not be. It is the default.

A test holds the two equal, and both equal to ``torch.optim``. Constructors, defaults, errors and
state dicts are torch's, so that a checkpoint moves either way. ``Optimizer`` and ``lr_scheduler``
are torch's own, passed through.
"""

from torch.optim import Optimizer, lr_scheduler

from manual_bp.optim.adagrad import Adagrad
from manual_bp.optim.adam import Adam, AdamW
from manual_bp.optim.rmsprop import RMSprop
from manual_bp.optim.rule import UpdateRule
from manual_bp.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "UpdateRule",
    "lr_scheduler",
]
