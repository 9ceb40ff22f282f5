r"""The gamma function, as its logarithm: lgamma, digamma, polygamma, mvlgamma; and zeta, igamma.

Forward and backward, with psi_n the n-th derivative of psi = psi_0::

    y = ln |Gamma(x)|                                     dL/dx = dL/dy psi(x)
    y = psi(x), the slope of ln Gamma                     dL/dx = dL/dy psi_1(x)
    y = psi_n(x)                                          dL/dx = dL/dy psi_(n+1)(x)
    y = c_p + sum_j ln Gamma(x - j/2),  j = 0..p-1        dL/dx = dL/dy sum_j psi(x - j/2)

    z = sum_k (k + q)^-x, zeta                            dL/dq = -dL/dz x zeta(x + 1, q)
    z = 1/Gamma(a) integral_0^x t^(a-1) e^-t dt           dL/dx = dL/dz x^(a-1) e^-x / Gamma(a)

Gamma(n) is (n - 1)!, which overflows early (171! in float64): densities of the gamma, beta,
Dirichlet and Wishart distributions are written with its logarithm. The last is the gamma
distribution's own: the slope of a distribution is its density. By ``x`` of zeta and ``a`` there is
no formula in functions that torch has, and torch refuses that gradient; so it is here.

Abramowitz & Stegun (1964), "Handbook of Mathematical Functions", sections 6.3-6.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands, unary
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


class ZetaFunction(FromInputs):
    """``x`` and ``q``: tensors whose shapes broadcast, or one of them a number."""

    @staticmethod
    def forward(x: Any, q: Any) -> Tensor:
        return torch.special.zeta(x, q)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, q = operands(ctx)
        by_x = _refuses("zeta")
        return asked_for(ctx, by_x, lambda: -grad_z * x * torch.special.zeta(x + 1, q))


class IgammaFunction(FromInputs):
    """``a`` and ``x``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        return torch.igamma(a, x)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        a, x = operands(ctx)
        return asked_for(ctx, _refuses("igamma: input"), lambda: grad_z * _density(a, x))


class IgammacFunction(FromInputs):
    """``a`` and ``x``: tensors whose shapes broadcast."""

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        return torch.igammac(a, x)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        a, x = operands(ctx)
        return asked_for(ctx, _refuses("igammac: input"), lambda: -grad_z * _density(a, x))


def _density(a: Tensor, x: Tensor) -> Tensor:
    """Of the gamma distribution with shape ``a``, by its logarithm: neither factor overflows."""
    return torch.exp((a - 1) * x.log() - x - torch.lgamma(a))


def _refuses(name: str) -> Any:
    def gradient() -> Tensor:
        raise NotImplementedError(f"the derivative for '{name}' is not implemented.")

    return gradient


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


def zeta(input: Tensor | float, other: Tensor | float) -> Tensor:
    """Hurwitz' zeta function, by hand by its second argument; as ``torch.special.zeta``.

    Args:
        input: over 1, any shape, or a number
        other: a shape that broadcasts with ``input``'s, or a number

    Raises:
        NotImplementedError: In the backward, where ``input`` requires a gradient.
    """
    return ZetaFunction.apply(input, other)


def igamma(input: Tensor, other: Tensor) -> Tensor:
    """Gamma distribution of shape ``input`` up to ``other``; as ``torch.igamma``.

    Args:
        input: positive, any shape
        other: at least 0, a shape that broadcasts with ``input``'s

    Raises:
        NotImplementedError: In the backward, where ``input`` requires a gradient.
    """
    return IgammaFunction.apply(input, other)


def igammac(input: Tensor, other: Tensor) -> Tensor:
    """``1 - igamma``, precise far out; as ``torch.igammac``.

    Args:
        input: positive, any shape
        other: at least 0, a shape that broadcasts with ``input``'s

    Raises:
        NotImplementedError: In the backward, where ``input`` requires a gradient.
    """
    return IgammacFunction.apply(input, other)


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


def _zeta(draw: Draw) -> Iterator[Sample]:
    q = draw.uniform(4, 3, low=0.5, high=4.0).requires_grad_()
    yield sample(draw.uniform(3, low=2.0, high=5.0), q)
    yield sample(2.5, q, label="a number")


def _igamma(draw: Draw) -> Iterator[Sample]:
    x = draw.uniform(4, 3, low=0.1, high=5.0).requires_grad_()
    yield sample(draw.uniform(3, low=0.5, high=4.0), x)


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
ZETA = Spec(
    name="zeta",
    formula="z = sum_k (k + q)^-x",
    gradient="dq = -dz x zeta(x + 1, q)",
    manual=zeta,
    native=torch.special.zeta,
    samples=_zeta,
)
IGAMMA = Spec(
    name="igamma",
    formula="z = 1/Gamma(a) integral_0^x t^(a-1) e^-t dt",
    gradient="dx = dz x^(a-1) e^-x / Gamma(a)",
    manual=igamma,
    native=torch.igamma,
    overrides=(torch.Tensor.igamma, torch.special.gammainc),
    inplace={torch.Tensor.igamma_: in_place(igamma)},
    samples=_igamma,
)
IGAMMAC = Spec(
    name="igammac",
    formula="z = 1 - igamma(a, x)",
    gradient="dx = -dz x^(a-1) e^-x / Gamma(a)",
    manual=igammac,
    native=torch.igammac,
    overrides=(torch.Tensor.igammac, torch.special.gammaincc),
    inplace={torch.Tensor.igammac_: in_place(igammac)},
    samples=_igamma,
)
