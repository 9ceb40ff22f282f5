r"""The normal distribution Phi, its logarithm and its inverse: ndtr, log_ndtr, ndtri; erfcx.

With phi(x) = e^(-x^2/2) / sqrt(2 pi), the density, forward and backward::

    y = Phi(x) = integral of phi from -inf to x    dL/dx = dL/dy phi(x)
    y = ln Phi(x)                                  dL/dx = dL/dy phi(x) / Phi(x)
    y = Phi^-1(x)                                  dL/dx = dL/dy / phi(y)
    y = erfcx x = e^(x^2) erfc x                   dL/dx = dL/dy (2 x y - 2 / sqrt(pi))

Far below 0 both phi and Phi underflow, and their quotient would be 0 / 0. Of both, e^(-x^2/2) is a
factor: Phi(x) = e^(-x^2/2) erfcx(-x / sqrt 2) / 2, which leaves::

    phi(x) / Phi(x) = sqrt(2/pi) / erfcx(-x / sqrt 2)

It holds at any x. PyTorch's gradient takes e^(-x^2/2 - y), whose exponent cancels: at x = -1e9
nothing is left of it. That quotient is what the gradient of a probit or Tobit model consists of.
erfcx exists for such cases; its own gradient is the product rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import unary
from manual_bp.function import FromBoth, FromInput, FromOutput
from manual_bp.spec import Draw, Sample, sample

special = torch.special


class NdtrFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.ndtr(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * (torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi))


class LogNdtrFunction(FromInput):
    """``x`` of any shape."""

    # torch's own kernel has no rule for a batch; element by element a batch is a larger tensor.
    generate_vmap_rule = False

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
        return LogNdtrFunction.apply(x), in_dims[0]

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.log_ndtr(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * math.sqrt(2 / math.pi) / special.erfcx(-x / math.sqrt(2))


class NdtriFunction(FromOutput):
    """``x`` of any shape, in (0, 1)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.ndtri(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad_y * (math.sqrt(2 * math.pi) * torch.exp(0.5 * y.square()))


class ErfcxFunction(FromBoth):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return special.erfcx(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return grad_y * (2 * x * y - 2 / math.sqrt(math.pi))


def ndtr(input: Tensor) -> Tensor:
    """Area under the normal density up to x, gradient by hand; as ``torch.special.ndtr``."""
    return NdtrFunction.apply(input)


def log_ndtr(input: Tensor) -> Tensor:
    """``ln ndtr(x)``, precise far below 0, by hand; as ``torch.special.log_ndtr``."""
    return LogNdtrFunction.apply(input)


def ndtri(input: Tensor) -> Tensor:
    """Inverse of ``ndtr`` with its gradient by hand; as ``torch.special.ndtri``."""
    return NdtriFunction.apply(input)


def erfcx(input: Tensor) -> Tensor:
    """``e^(x^2) erfc(x)`` with its gradient by hand; as ``torch.special.erfcx``."""
    return ErfcxFunction.apply(input)


def _real(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-20.0, -0.0, 0.0, 1e-9, 5.0), label="zero and tails", smooth=False)


def _share(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=0.05, high=0.95).requires_grad_())
    yield sample(draw.values(0.0, 1e-9, 1.0), label="at the ends", smooth=False)


NDTR = unary(ndtr, "y = Phi(x)", "dx = dy phi(x)", _real)
LOG_NDTR = replace(
    unary(log_ndtr, "y = ln Phi(x)", "dx = dy phi(x) / Phi(x)", _real),
    skip=("extremes",),  # where torch's own gradient cancels
)
NDTRI = unary(ndtri, "y = Phi^-1(x)", "dx = dy / phi(y)", _share, scale=0.4, shift=0.5)
ERFCX = unary(erfcx, "y = e^(x^2) erfc x", "dx = dy (2 x y - 2/sqrt(pi))", _real)
