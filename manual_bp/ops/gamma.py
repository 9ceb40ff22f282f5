r"""The gamma function, as its logarithm: lgamma, digamma, polygamma, mvlgamma.

Forward and backward, with psi_n the n-th derivative of psi = psi_0::

    y = ln |Gamma(x)|                                     dL/dx = dL/dy psi(x)
    y = psi(x), the slope of ln Gamma                     dL/dx = dL/dy psi_1(x)
    y = psi_n(x)                                          dL/dx = dL/dy psi_(n+1)(x)
    y = c_p + sum_j ln Gamma(x - j/2),  j = 0..p-1        dL/dx = dL/dy sum_j psi(x - j/2)

Gamma(n) is (n - 1)!, which overflows early (171! in float64): densities of the gamma, beta,
Dirichlet and Wishart distributions are written with its logarithm.

Abramowitz & Stegun (1964), "Handbook of Mathematical Functions", sections 6.3 and 6.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place, unary
from manual_bp.function import FromInput
from manual_bp.spec import Draw, Sample, Spec, sample


class LgammaFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.lgamma(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * torch.digamma(x)


class DigammaFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.digamma(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * torch.polygamma(1, x)


class PolygammaFunction(FromInput):
    """``x`` of any shape; ``n``: which derivative of digamma."""

    @staticmethod
    def forward(x: Tensor, n: int) -> Tensor:
        return torch.polygamma(n, x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (n,) = ctx.numbers
        return grad_y * torch.polygamma(n + 1, x), None


class MvlgammaFunction(FromInput):
    """``x`` of any shape, over (p - 1) / 2; ``p``: the dimension."""

    @staticmethod
    def forward(x: Tensor, p: int) -> Tensor:
        return torch.mvlgamma(x, p)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (p,) = ctx.numbers
        slope = torch.digamma(x)
        for j in range(1, p):
            slope = slope + torch.digamma(x - j / 2)
        return grad_y * slope, None


def lgamma(input: Tensor) -> Tensor:
    """``ln |Gamma(x)|`` with its gradient by hand; as ``torch.lgamma``."""
    return LgammaFunction.apply(input)


def digamma(input: Tensor) -> Tensor:
    """The slope of ``lgamma``, with its own gradient by hand; as ``torch.digamma``."""
    return DigammaFunction.apply(input)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, with its gradient by hand; as ``torch.polygamma``.

    Args:
        n: at least 0
        input: any shape

    Raises:
        RuntimeError: From torch, for a negative ``n``.
    """
    return PolygammaFunction.apply(input, n)


def _polygamma_of(input: Tensor, n: int) -> Tensor:
    """With the arguments of ``Tensor.polygamma``."""
    return PolygammaFunction.apply(input, n)


def mvlgamma(input: Tensor, p: int) -> Tensor:
    """Logarithm of the multivariate gamma function, by hand; as ``torch.mvlgamma``.

    Args:
        input: any shape, each element over (p - 1) / 2
        p: the dimension, at least 1

    Raises:
        RuntimeError: From torch, for ``p`` below 1.
    """
    return MvlgammaFunction.apply(input, p)


def _argument(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=0.3, high=4.0).requires_grad_())
    yield sample(draw.values(-1.5, -0.0, 0.0, 1e3), label="negative, poles", smooth=False)


def _polygamma(draw: Draw) -> Iterator[Sample]:
    yield sample(2, draw.uniform(4, 3, low=0.3, high=4.0).requires_grad_())
    yield sample(0, draw.uniform(4, 3, low=0.3, high=4.0).requires_grad_(), label="digamma")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(-1, draw(4), label="negative")


def _mvlgamma(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.uniform(4, 3, low=1.3, high=4.0).requires_grad_(), 3)


def _p_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), 0, label="no dimension")


LGAMMA = unary(
    lgamma, "y = ln |Gamma(x)|", "dx = dy psi(x)", _argument, torch.special.gammaln, shift=2.0
)
DIGAMMA = unary(
    digamma,
    "y = psi(x)",
    "dx = dy psi_1(x)",
    _argument,
    torch.special.digamma,
    torch.special.psi,
    shift=2.0,
)
POLYGAMMA = Spec(
    name="polygamma",
    formula="y = psi_n(x)",
    gradient="dx = dy psi_(n+1)(x)",
    manual=polygamma,
    native=torch.polygamma,
    overrides=(torch.special.polygamma,),
    inplace={
        torch.Tensor.polygamma: _polygamma_of,
        torch.Tensor.polygamma_: in_place(_polygamma_of),
    },
    samples=_polygamma,
    refused=_refused,
)
MVLGAMMA = Spec(
    name="mvlgamma",
    formula="y = c_p + sum_j ln Gamma(x - j/2)",
    gradient="dx = dy sum_j psi(x - j/2)",
    manual=mvlgamma,
    native=torch.mvlgamma,
    overrides=(torch.Tensor.mvlgamma, torch.special.multigammaln),
    inplace={torch.Tensor.mvlgamma_: in_place(mvlgamma)},
    samples=_mvlgamma,
    refused=_p_refused,
)
