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
    LinearCrossEntropyOptions,
    Module,
    ModuleDict,
    ModuleList,
    Parameter,
    ParameterDict,
    ParameterList,
    RNNBase,
    RNNCellBase,
    Sequential,
    UninitializedBuffer,
    UninitializedParameter,
    init,
    utils,
)

from manual_bp import functional, lazy
from manual_bp.layers import SPECS

if TYPE_CHECKING:  # a module here has the type of the one it mirrors
    from torch.nn import *  # type: ignore[no-redef] # noqa: F403

_MODULES = {module.__name__: module for spec in SPECS for module in spec.modules} | {
    name: getattr(lazy, name) for name in lazy.__all__
}

__all__ = [
    "Buffer",
    "Identity",
    "LinearCrossEntropyOptions",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "RNNBase",
    "RNNCellBase",
    "Sequential",
    "UninitializedBuffer",
    "UninitializedParameter",
    "functional",
    "init",
    "utils",
    *sorted(_MODULES),
]

globals().update(_MODULES)


def __getattr__(name: str) -> object:
    if hasattr(torch.nn, name):
        from manual_bp.coverage import LEFT_OUT

        why = LEFT_OUT.get(f"torch.nn.{name}", "no gradient is written by hand for it yet")
        raise AttributeError(
            f"manual_bp.nn has no {name!r} as torch.nn has: {why}; `python -m manual_bp list` "
            "shows those that are by hand"
        )
    raise AttributeError(f"module 'manual_bp.nn' has no attribute {name!r}")
