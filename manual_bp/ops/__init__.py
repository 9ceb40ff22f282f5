"""The tensor operations between layers, one file each, in the form of a layer."""

from manual_bp.spec import Spec, specs_in

FILES = (
    "add",
    "addmm",
    "bessel",
    "cat",
    "clamp",
    "clone",
    "copy",
    "cumulative",
    "div",
    "einsum",
    "error_function",
    "expand",
    "exponential",
    "gamma",
    "gather",
    "getitem",
    "index_select",
    "lerp",
    "matmul",
    "mul",
    "narrow",
    "norm",
    "normal_cdf",
    "permute",
    "pick",
    "power",
    "rearrange",
    "sign",
    "split",
    "sum",
    "to",
    "trigonometric",
    "var",
    "view",
    "where",
)

SPECS: tuple[Spec, ...] = specs_in(__name__, FILES)
