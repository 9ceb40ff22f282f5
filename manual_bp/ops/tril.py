r"""A triangle of a matrix, with zeros for the rest: tril and triu.

Forward, with d the last diagonal that is kept: 0 for the main one, above it positive::

    tril    y_ij = x_ij  where j <= i + d,  else 0
    triu    y_ij = x_ij  where j >= i + d,  else 0

Backward. What was kept is met once, the rest not at all, so each is its own backward::

    tril    dL/dx_ij = dL/dy_ij  where j <= i + d,  else 0
    triu    dL/dx_ij = dL/dy_ij  where j >= i + d,  else 0
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


class TriangleFunction(Function):
    """``method``: "tril" or "triu"; ``diagonal``: where the triangle ends."""

    @staticmethod
    def forward(x: Tensor, method: str, diagonal: int) -> Tensor:
        return getattr(torch, method)(x, diagonal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.method, ctx.diagonal = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return getattr(torch, ctx.method)(grad_y, ctx.diagonal), None, None


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle, 0 above it; as ``torch.tril``.

    Args:
        input: (..., I, J)
        diagonal: the last diagonal that is kept
    """
    return TriangleFunction.apply(input, "tril", diagonal)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle, 0 below it; as ``torch.triu``."""
    return TriangleFunction.apply(input, "triu", diagonal)


def tril_(input: Tensor, diagonal: int = 0) -> Tensor:
    """``tril`` in place; as ``Tensor.tril_``."""
    return copy_(input, tril(input, diagonal))


def triu_(input: Tensor, diagonal: int = 0) -> Tensor:
    """``triu`` in place; as ``Tensor.triu_``."""
    return copy_(input, triu(input, diagonal))


def _triangle_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 3, 4), -1, label="another diagonal")


TRIL = Spec(
    name="tril",
    formula="y_ij = x_ij where j <= i + d, else 0",
    gradient="dx_ij = dy_ij where j <= i + d, else 0",
    manual=tril,
    native=torch.tril,
    overrides=(torch.Tensor.tril,),
    inplace={torch.Tensor.tril_: tril_},
    samples=_triangle_samples,
)
TRIU = Spec(
    name="triu",
    formula="y_ij = x_ij where j >= i + d, else 0",
    gradient="dx_ij = dy_ij where j >= i + d, else 0",
    manual=triu,
    native=torch.triu,
    overrides=(torch.Tensor.triu,),
    inplace={torch.Tensor.triu_: triu_},
    samples=_triangle_samples,
)
