r"""The gamma distribution, igamma and igammac, and the zeta function; by one of two arguments.

Forward and backward, summed over the axes along which an operand was repeated::

    z = 1/Gamma(a) integral_0^x t^(a-1) e^-t dt    dL/dx = dL/dz x^(a-1) e^-x / Gamma(a)
    z = 1 - igamma(a, x)                           dL/dx = -dL/dz x^(a-1) e^-x / Gamma(a)
    z = sum_k (k + q)^-x, zeta                     dL/dq = -dL/dz x zeta(x + 1, q)

The slope of a distribution is its density. By ``a``, and by ``x`` of zeta, there is no formula in
functions that torch has; like torch, this refuses that gradient in the backward.

Abramowitz & Stegun (1964), "Handbook of Mathematical Functions", sections 6.5 and 23.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.spec import Draw, Sample, Spec, sample


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


def _zeta(draw: Draw) -> Iterator[Sample]:
    q = draw.uniform(4, 3, low=0.5, high=4.0).requires_grad_()
    yield sample(draw.uniform(3, low=2.0, high=5.0), q)
    yield sample(2.5, q, label="a number")


def _igamma(draw: Draw) -> Iterator[Sample]:
    x = draw.uniform(4, 3, low=0.1, high=5.0).requires_grad_()
    yield sample(draw.uniform(3, low=0.5, high=4.0), x)


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
