"""The modules of ``torch.nn`` whose gradients are written by hand.

Same names, same constructors, same state dicts; each is a subclass of the one it mirrors. What
computes nothing itself (containers, ``Module``, ``Parameter``) is torch's own, so that a network
written against a namespace ``nn`` takes either: ``torch.nn`` or ``manual_bp.nn``.
"""

from typing import TYPE_CHECKING

import torch.nn
from torch.nn import (
    Buffer,
    Identity,
    Module,
    ModuleDict,
    ModuleList,
    Parameter,
    ParameterDict,
    ParameterList,
    Sequential,
    init,
    utils,
)

from manual_bp import functional
from manual_bp.layers import SPECS

if TYPE_CHECKING:  # a module here has the type of the one it mirrors
    from torch.nn import *  # type: ignore[no-redef] # noqa: F403

_MODULES = {module.__name__: module for spec in SPECS for module in spec.modules}

__all__ = [
    "Buffer",
    "Identity",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "Sequential",
    "functional",
    "init",
    "utils",
    *sorted(_MODULES),
]

globals().update(_MODULES)


def __getattr__(name: str) -> object:
    if hasattr(torch.nn, name):
        raise AttributeError(
            f"manual_bp.nn has no {name!r}: no gradient is written by hand for torch.nn.{name} "
            "yet; `python -m manual_bp list` shows those that are"
        )
    raise AttributeError(f"module 'manual_bp.nn' has no attribute {name!r}")
