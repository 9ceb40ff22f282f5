"""The layers, one file each. A new layer adds its file and its line below."""

from manual_bp.ops import SPECS as _OPERATIONS
from manual_bp.spec import Spec, specs_in

FILES = (
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy",
    "convolution",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "group_norm",
    "instance_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "max_pool",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "tanh",
)

#: Every layer, and after them every operation between layers.
SPECS: tuple[Spec, ...] = specs_in(__name__, FILES) + _OPERATIONS
