"""Why an operation makes NaN or infinity: what of its input lies outside of its domain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.summary import number

if TYPE_CHECKING:
    from manual_bp.explain.diagnosis.case import Case

__all__ = ["why"]


def why(call: Call, case: Case, backward: bool = False) -> str:
    """Say in a sentence what of the input does not suit the operation; "" where it is not known.

    Args:
        call: The operation.
        case: What else was watched.
        backward: Whether its gradient is in question, not its output.
    """
    numbers = [s for s in case.inputs(call) if s.size]
    if not numbers:
        return ""
    x = numbers[0]
    name = call.name
    limit = torch.finfo(getattr(torch, x.dtype)).max if "float" in x.dtype else math.inf
    if name in ("log", "log2", "log10", "log1p"):
        edge = -1 if name == "log1p" else 0
        return _outside(call, edge, backward)
    if name in ("sqrt", "rsqrt", "pow", "std", "var"):
        if name == "std" and backward:
            return "Something does not vary at all: there the slope of the root is infinite."
        return _outside(call, 0, backward)
    if name in ("div", "truediv", "true_divide", "rtruediv", "rdiv", "reciprocal"):
        by = numbers[-1]
        if by.zeros:
            return f"{by.zeros} of {by.size} numbers in the divisor are 0."
        return f"The divisor comes down to {number(min(abs(by.low), abs(by.high)))}."
    if name in ("exp", "exp2", "expm1", "cosh", "sinh"):
        top = math.log(limit)
        if x.high > top:
            return (
                f"The largest argument is {number(x.high)}; exp leaves the range of {x.dtype} "
                f"above {number(top)}."
            )
    if name in ("softmax", "log_softmax") and x.inf:
        return "A whole row is masked with -inf: there is nothing left to share out."
    if name in ("acos", "arccos", "asin", "arcsin", "atanh", "arctanh"):
        return f"Its argument is in [{number(x.low)}, {number(x.high)}]; the domain ends at 1."
    if name in ("binary_cross_entropy",) and (x.low < 0 or x.high > 1):
        return f"Probabilities lie in [0, 1]; these in [{number(x.low)}, {number(x.high)}]."
    largest = max((max(abs(s.low), abs(s.high)) for s in numbers if s.low == s.low), default=0.0)
    if largest > math.sqrt(limit) and math.isfinite(limit):
        return (
            f"Numbers of {number(largest)} go in; a product of two leaves the range of {x.dtype}, "
            f"which ends at {number(limit)}."
        )
    return ""


def _outside(call: Call, edge: float, backward: bool) -> str:
    """What lies on the edge of the domain, or below it."""
    x = next(iter(call.inputs.values())).detach()
    at, below = int((x == edge).sum()), int((x < edge).sum())
    parts = []
    if at and (backward or call.name not in ("sqrt", "pow")):
        slope_or_value = "slope" if backward else "value"
        parts.append(
            f"{at} of {x.numel()} elements are {edge}, where its {slope_or_value} is infinite"
        )
    if below:
        parts.append(f"{below} of {x.numel()} are below {edge}, where it has no value")
    return " and ".join(parts) + "." if parts else ""
