r"""The conjugate: conj, conj_physical, and what writes out a view that is only marked.

Forward and backward, in the convention of :mod:`manual_bp.ops.complex`::

    y = conj z        dL/dz = conj(dL/dy)

``conj`` computes nothing: its result is the memory of z, marked to be read as the conjugate, as the
imaginary part of such a view is marked to be read as the negative. ``conj_physical`` has memory of
its own; resolve_conj and resolve_neg write out what is marked, and y = z.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import FromNeither, nothing_to_do
from manual_bp.spec import Draw, Sample, Spec, sample


class ConjFunction(FromNeither):
    """``z``: complex, any shape; ``y`` is a view that says it is to be read as the conjugate."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.conj(z)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y.conj()


class ConjPhysicalFunction(FromNeither):
    """``z``: complex, any shape; ``y`` is in memory of its own."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return z.conj().resolve_conj()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        return grad_y.conj().resolve_conj()


class ResolveFunction(FromNeither):
    """``z``: any shape; ``method``: ``resolve_conj`` or ``resolve_neg``, which write out a view."""

    @staticmethod
    def forward(z: Tensor, method: str) -> Tensor:
        return getattr(z, method)()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return grad_y, None


def conj(input: Tensor) -> Tensor:
    """The conjugate, in the same memory, gradient by hand; as ``torch.conj``.

    Args:
        input: any shape; of real numbers it is what is returned
    """
    if not input.is_complex() or nothing_to_do(input):
        return torch.conj(input)
    return ConjFunction.apply(input)


def conj_physical(input: Tensor) -> Tensor:
    """The conjugate in memory of its own, gradient by hand; as ``torch.conj_physical``.

    Args:
        input: any shape; of real numbers it is what is returned
    """
    return ConjPhysicalFunction.apply(input) if input.is_complex() else input


def _conj_physical_(input: Tensor) -> Tensor:
    return in_place(conj_physical)(input) if input.is_complex() else input


def resolve_conj(input: Tensor) -> Tensor:
    """A conjugate that is a view written out, else the tensor; as ``torch.resolve_conj``."""
    # While torch.compile traces, a tensor does not tell.
    if not torch.compiler.is_compiling() and not input.is_conj():
        return input
    return ResolveFunction.apply(input, "resolve_conj")


def resolve_neg(input: Tensor) -> Tensor:
    """A negative that is a view written out, else the tensor; as ``torch.resolve_neg``."""
    if not torch.compiler.is_compiling() and not input.is_neg():
        return input
    return ResolveFunction.apply(input, "resolve_neg")


def _complex(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 3))


def _conjugate(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 3).detach().conj().requires_grad_())


def _negative(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 3).detach().conj().imag.requires_grad_())


CONJ = Spec(
    name="conj",
    formula="y = conj z",
    gradient="dz = conj dy",
    manual=conj,
    native=torch.conj,
    overrides=(torch.Tensor.conj,),
    samples=_complex,
)
CONJ_PHYSICAL = Spec(
    name="conj_physical",
    formula="y = conj z",
    gradient="dz = conj dy",
    manual=conj_physical,
    native=torch.conj_physical,
    overrides=(torch.Tensor.conj_physical,),
    inplace=dict.fromkeys((torch.conj_physical_, torch.Tensor.conj_physical_), _conj_physical_),
    samples=_complex,
)
RESOLVE_CONJ = Spec(
    name="resolve_conj",
    formula="y = z",
    gradient="dz = dy",
    manual=resolve_conj,
    native=torch.resolve_conj,
    overrides=(torch.Tensor.resolve_conj,),
    samples=_conjugate,
)
RESOLVE_NEG = Spec(
    name="resolve_neg",
    formula="y = z",
    gradient="dz = dy",
    manual=resolve_neg,
    native=torch.resolve_neg,
    overrides=(torch.Tensor.resolve_neg,),
    samples=_negative,
)
