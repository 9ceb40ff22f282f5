"""The functions of ``torch.nn.functional`` whose gradients are written by hand.

Same names, same arguments: ``from manual_bp import functional as F``.
"""

from typing import TYPE_CHECKING

from manual_bp.layers import SPECS

if TYPE_CHECKING:  # a function here has the signature of the one it mirrors
    from torch.nn.functional import *  # noqa: F403

__all__ = sorted(spec.manual.__name__ for spec in SPECS)

globals().update({spec.manual.__name__: spec.manual for spec in SPECS})


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"manual_bp.functional has no {name!r}: no gradient is written by hand for it yet; "
        "`python -m manual_bp list` shows those that are"
    )
