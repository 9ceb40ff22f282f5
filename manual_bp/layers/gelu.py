r"""GELU: the input, weighted by the chance that a normal number is smaller.

Forward, with the standard normal density phi and its integral Phi::

    phi(x) = e^(-x^2/2) / sqrt(2 pi)      Phi(x) = (1 + erf(x / sqrt 2)) / 2
    y = x Phi(x)

or, ``approximate="tanh"``, with u = sqrt(2/pi) (x + 0.044715 x^3)::

    y = x (1 + tanh u) / 2 = x s          s = sigmoid(2u)

Backward, by the product rule; Phi' = phi, and s' = s (1 - s) 2u'::

    dL/dx = dL/dy (Phi(x) + x phi(x))
    dL/dx = dL/dy (s + x s (1 - s) 2u')   2u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2)

The sigmoid is the tanh in another form, but takes a sixth of its time. Where nothing has to be
differentiated again, Phi(x) is y / x, for torch computes ``y`` in one pass; and e^z is
2^(z / ln 2), for which it has the quicker kernel.

Hendrycks & Gimpel (2016), "Gaussian Error Linear Units (GELUs)", section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import times_slope
from manual_bp.function import FromInput, is_recorded, widened
from manual_bp.spec import Draw, Sample, Spec, sample

_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)
_TWO_U = 2 * math.sqrt(2 / math.pi)  # 2u = _TWO_U (x + _CUBIC x^3)
_CUBIC = 0.044715


class GELUFunction(FromInput):
    """``x`` of any shape; ``approximate``: "none" or "tanh"."""

    @staticmethod
    def forward(x: Tensor, approximate: str) -> Tensor:
        return torch.nn.functional.gelu(x, approximate=approximate)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        (approximate,) = ctx.numbers
        if not is_recorded():
            quick = _slope_tanh_in_place if approximate == "tanh" else _slope_in_place
            return times_slope(grad_y, quick, input), None
        grad_y, x = widened(grad_y, input)
        slope = _slope_tanh(x) if approximate == "tanh" else _slope(x)
        return (slope * grad_y).to(input.dtype), None


def _slope(x: Tensor) -> Tensor:
    density = torch.exp(-0.5 * x * x) * _DENSITY_AT_0
    return 0.5 * (1 + torch.erf(x * math.sqrt(0.5))) + x * density


def _slope_in_place(x: Tensor) -> Tensor:
    # At 0 (and at infinity, where the slope is NaN anyway) y / x is 0 / 0: there Phi is 1/2.
    chance = torch.nn.functional.gelu(x).div_(x).nan_to_num_(nan=0.5)
    density = torch.mul(x, x).mul_(-0.5 / math.log(2)).exp2_()
    return chance.addcmul_(density, x, value=_DENSITY_AT_0)


def _slope_tanh(x: Tensor) -> Tensor:
    s = torch.sigmoid(_TWO_U * x * (1 + _CUBIC * x * x))
    return s + x * s * (1 - s) * (_TWO_U * (1 + 3 * _CUBIC * x * x))


def _slope_tanh_in_place(x: Tensor) -> Tensor:
    x2 = x * x
    s = torch.mul(x2, _TWO_U * _CUBIC).add_(_TWO_U).mul_(x).sigmoid_()
    x_two_du = x2.mul_(3 * _TWO_U * _CUBIC).add_(_TWO_U).mul_(x)  # x 2u'
    return x_two_du.mul_(torch.addcmul(s, s, s, value=-1)).add_(s)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """GELU with its gradient by hand; as ``torch.nn.functional.gelu``.

    Args:
        input: any shape, floating-point
        approximate: "none" for the error function, "tanh" for its approximation

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, for another ``approximate``.
    """
    return GELUFunction.apply(input, approximate)


class GELU(torch.nn.GELU):
    """``torch.nn.GELU`` whose gradient is :class:`GELUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return gelu(input, self.approximate)


def _samples(draw: Draw) -> Iterator[Sample]:
    special = draw.values(-30.0, -6.0, -1e-8, -0.0, 0.0, 1e-8, 6.0, 30.0)
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), approximate="tanh", label="tanh")
    yield sample(special, label="tails and zero")
    yield sample(special, approximate="tanh", label="tanh, tails and zero")
    yield sample(draw(0, 3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), approximate="sigmoid", label="an unknown approximation")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), approximate="tanh")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))
    yield sample(draw(64, 512), approximate="tanh", label="tanh, 64x512")
    yield sample(draw(1024, 2048), approximate="tanh", label="tanh, 1024x2048")


SPEC = Spec(
    name="gelu",
    formula="y = x Phi(x)",
    gradient="dx = dy (Phi(x) + x phi(x))",
    manual=gelu,
    native=torch.nn.functional.gelu,
    samples=_samples,
    refused=_refused,
    modules={GELU: _modules},
    bench=_bench,
)
