"""The layers, one file each. A new layer adds its file and its line below."""

from manual_bp.ops import SPECS as _OPERATIONS
from manual_bp.spec import Spec, specs_in

FILES = (
    "batch_norm",
    "convolution",
    "cross_entropy",
    "layer_norm",
    "linear",
    "nll_loss",
    "pad",
    "relu",
)

#: Every layer, and after them every operation between layers.
SPECS: tuple[Spec, ...] = specs_in(__name__, FILES) + _OPERATIONS
