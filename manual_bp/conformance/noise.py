"""How much rounding an ill-conditioned call excuses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from manual_bp.conformance.bench import Bench, LeftOut
from manual_bp.conformance.call import Call
from manual_bp.conformance.compare import largest
from manual_bp.conformance.run import Raised

__all__ = ["Noise"]

# float32 has 29 bits less than float64; the factor admits another order of the operations.
_SHARE = 64 * 2.0**-29


class Noise:
    """What the reference itself loses in float32, scaled down to float64.

    An inverse near a singular matrix, or a variance at a large mean, amplifies rounding; another
    formula that is just as right then differs by more than the usual tolerance. The reference's
    own float32 error measures by how much. At most one part in ten million of the gradient is
    ever excused this way, so that no wrong formula is.

    Args:
        bench: Of the check.
        call: Whose reference is measured.
        cotangents: Of its backward.
    """

    def __init__(self, bench: Bench, call: Call, cotangents: Sequence[Tensor | None] = ()) -> None:
        self._bench = bench
        self._call = call
        self._cotangents = cotangents

    @cached_property
    def _measured(self) -> tuple[list[float], dict[int, float]]:
        try:
            wide = self._bench.refer(self._call)
            low = self._bench.refer(self._call.to(torch.float32))
            outputs = [_distance(a, b) for a, b in zip(low.outputs, wide.outputs, strict=True)]
            if not self._cotangents:
                return outputs, {}
            narrow = [
                None if g is None else g.to(y.dtype)
                for g, y in zip(self._cotangents, low.outputs, strict=True)
            ]
            low_grads, wide_grads = low.backward(narrow), wide.backward(self._cotangents)
            return outputs, {i: _distance(low_grads[i], wide_grads[i]) for i in wide_grads}
        except (LeftOut, Raised, ValueError):
            return [], {}

    def of_output(self, index: int) -> float:
        """Excused difference of an output."""
        measured = self._measured[0]
        return measured[index] if index < len(measured) else 0.0

    def of_gradient(self, leaf: int) -> float:
        """Excused difference of a gradient."""
        return self._measured[1].get(leaf, 0.0)


def _distance(low: Tensor | None, wide: Tensor | None) -> float:
    if low is None or wide is None or low.shape != wide.shape:
        return 0.0
    return _SHARE * largest(low.detach().to(wide.dtype) - wide.detach())
