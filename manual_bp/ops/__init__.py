"""The tensor operations between layers, one file each, in the form of a layer."""

from manual_bp.spec import Spec, specs_in

FILES = (
    "add",
    "addmm",
    "cat",
    "clone",
    "copy",
    "div",
    "expand",
    "exponential",
    "gather",
    "getitem",
    "index_select",
    "matmul",
    "mul",
    "narrow",
    "permute",
    "pick",
    "split",
    "sum",
    "trigonometric",
    "var",
    "view",
    "where",
)

SPECS: tuple[Spec, ...] = specs_in(__name__, FILES)
