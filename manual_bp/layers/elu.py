r"""ELU, SELU and CELU: an exponential that bends into the identity.

Forward, with a scale ``s``, a depth ``a`` and a rate ``r``::

    y = s x  where x > 0,  else  s a (e^(r x) - 1)

    ELU    s = 1         a = alpha     r = 1
    CELU   s = 1         a = alpha     r = 1 / alpha
    SELU   s = 1.0507    a = 1.6733    r = 1

Backward::

    dL/dx = s dL/dy  where x > 0,  else  s a r e^(r x) dL/dy

With a r = 1 (CELU always, ELU with alpha 1) both pieces are s e^(r min(x, 0)), and there is no
kink at 0. Elsewhere 0 belongs to the exponential, as in PyTorch. The two numbers of SELU make mean
0 and variance 1 a fixed point that a deep net is drawn to.

Clevert, Unterthiner & Hochreiter (2016), "Fast and Accurate Deep Network Learning by Exponential
Linear Units", section 3; Barron (2017), "Continuously Differentiable Exponential Linear Units";
Klambauer et al. (2017), "Self-Normalizing Neural Networks", section 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import times_slope
from manual_bp.function import FromInput, is_recorded, widened
from manual_bp.ops.clone import clone
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample

_SELU_DEPTH = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


class ELUFunction(FromInput):
    """``x`` of any shape; ``depth``, ``scale``, ``rate`` and the rate of the slope: numbers."""

    @staticmethod
    def forward(x: Tensor, depth: float, scale: float, rate: float, _: float) -> Tensor:
        return torch._C._nn.elu(x, depth, scale, rate)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        depth, scale, _, rate = ctx.numbers
        if not is_recorded():
            quick = functools.partial(_slope_in_place, depth=depth, scale=scale, rate=rate)
            return times_slope(grad_y, quick, input), None, None, None, None
        grad_y, x = widened(grad_y, input)
        negative = torch.where(x < 0, x, x.new_zeros(()))  # at 0 torch's second slope is 0
        bent = scale * depth * rate * torch.exp(rate * negative)
        grad_x = grad_y * torch.where(x <= 0, bent, x.new_full((), scale))
        return grad_x.to(input.dtype), None, None, None, None


def _slope_in_place(x: Tensor, depth: float, scale: float, rate: float) -> Tensor:
    # torch has the quicker kernel for 2^(z / ln 2).
    slope = x.clamp(max=0).mul_(rate / math.log(2)).exp2_()
    if depth * rate != 1:
        positive = torch.sign(x).clamp_(min=0)
        slope.mul_(depth * rate).lerp_(slope.new_ones(()), positive)
    return slope if scale == 1 else slope.mul_(scale)


def _elu(input: Tensor, inplace: bool, *numbers: float) -> Tensor:
    if inplace:
        return copy_(input, ELUFunction.apply(clone(input), *numbers))
    return ELUFunction.apply(input, *numbers)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """ELU with its gradient by hand; as ``torch.nn.functional.elu``.

    Args:
        input: any shape, floating-point
        alpha: what large negative elements go to, times -1
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    return _elu(input, inplace, alpha, 1, 1, 1)


def _in_float32(number: float) -> float:
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 2**24), exponent - 24)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """CELU with its gradient by hand; as ``torch.nn.functional.celu``.

    Args:
        input: any shape, floating-point
        alpha: what large negative elements go to, times -1
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where ``alpha`` is 0.
    """
    if alpha == 0:
        return torch.celu(input, alpha)  # which refuses it
    # The slope has alpha in float32, in every dtype: so does torch's.
    return _elu(input, inplace, alpha, 1, 1 / alpha, 1 / _in_float32(alpha))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """SELU with its gradient by hand; as ``torch.nn.functional.selu``.

    Args:
        input: any shape, floating-point
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.
    """
    return _elu(input, inplace, _SELU_DEPTH, _SELU_SCALE, 1, 1)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``elu`` in place; as ``torch.nn.functional.elu_``."""
    return elu(input, alpha, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``celu`` in place; as ``torch.celu_``."""
    return celu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    """``selu`` in place; as ``torch.selu_``."""
    return selu(input, inplace=True)


class ELU(torch.nn.ELU):
    """``torch.nn.ELU`` whose gradient is :class:`ELUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return elu(input, self.alpha, self.inplace)


class CELU(torch.nn.CELU):
    """``torch.nn.CELU`` whose gradient is :class:`ELUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return celu(input, self.alpha, self.inplace)


class SELU(torch.nn.SELU):
    """``torch.nn.SELU`` whose gradient is :class:`ELUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return selu(input, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 1.5, label="alpha")
    yield sample(draw.values(-800.0, -1e-9, -0.0, 0.0, 800.0), 1.5, label="kink", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _selu_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -1e-9, -0.0, 0.0, 800.0), label="kink", smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0.0, label="alpha 0")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 1.5)


def _selu_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="elu",
    formula="y = x where x > 0, else a (e^x - 1)",
    gradient="dx = dy where x > 0, else a e^x dy",
    manual=elu,
    native=torch.nn.functional.elu,
    inplace={torch.nn.functional.elu_: elu_, torch._C._nn.elu_: elu_},
    samples=_samples,
    modules={ELU: _modules},
    bench=_bench,
)

CELU_SPEC = Spec(
    name="celu",
    formula="y = x where x > 0, else a (e^(x/a) - 1)",
    gradient="dx = dy where x > 0, else e^(x/a) dy",
    manual=celu,
    native=torch.nn.functional.celu,
    overrides=(torch.celu,),
    inplace={torch.celu_: celu_},
    samples=_samples,
    refused=_refused,
    modules={CELU: _modules},
    bench=_bench,
)

SELU_SPEC = Spec(
    name="selu",
    formula="y = s x where x > 0, else s a (e^x - 1)",
    gradient="dx = s dy where x > 0, else s a e^x dy",
    manual=selu,
    native=torch.nn.functional.selu,
    overrides=(torch.selu,),
    inplace={torch.selu_: selu_},
    samples=_selu_samples,
    modules={SELU: _selu_modules},
    bench=_bench,
)
