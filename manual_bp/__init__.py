"""Backprop by hand: every gradient written out, and proved equal to autograd.

=====================  ===============================================================
``manual_bp.nn``       the modules of ``torch.nn``, every gradient by hand
``functional``         the functions of ``torch.nn.functional``, likewise
``optim``              the update rules of ``torch.optim``
``by_hand()``          any model, as it is, on the gradients written here
``register()``         one's own gradient in ``by_hand()``
``audit(loss)``        which operations are by hand and which are autograd's
``located()``          a forward pass of which ``audit`` then tells where in the model
``check(f, g, *x)``    proves one's own ``autograd.Function`` equal to a reference
``assert_equivalent``  the same, for a test; ``equivalent_to`` as a decorator
``explain(model, x)``  one learning step, operation by operation, number by number
``diagnose(model)``    what is wrong with a network's gradients, and what helps
=====================  ===============================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manual_bp import functional, nn
from manual_bp.audit import Audit, audit
from manual_bp.by_hand import by_hand, register
from manual_bp.explain import explain
from manual_bp.function import Function
from manual_bp.located import located

if TYPE_CHECKING:
    from manual_bp import optim
    from manual_bp.conformance import assert_equivalent, check, equivalent_to
    from manual_bp.explain.diagnose import diagnose
    from manual_bp.explain.diagnosis import Diagnosis

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "Diagnosis",
    "Function",
    "assert_equivalent",
    "audit",
    "by_hand",
    "check",
    "diagnose",
    "equivalent_to",
    "explain",
    "functional",
    "located",
    "nn",
    "optim",
    "register",
]

# Imported when first asked for: a training run needs no checker.
_LAZY = {
    "Diagnosis": "manual_bp.explain.diagnosis",
    "assert_equivalent": "manual_bp.conformance",
    "check": "manual_bp.conformance",
    "diagnose": "manual_bp.explain.diagnose",
    "equivalent_to": "manual_bp.conformance",
    "optim": "manual_bp.optim",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'manual_bp' has no attribute {name!r}")
    module = import_module(_LAZY[name])
    return module if name == "optim" else getattr(module, name)
