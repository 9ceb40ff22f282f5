r"""Solve and invert where rows and columns are of several axes each.

A tensor whose first axes count together as many elements as the others is a square matrix in
disguise: ``tensorsolve`` and ``tensorinv`` reshape, solve or invert, and reshape. So do their
gradients, which are those of :mod:`manual_bp.ops.solve`::

    sum_j A_ij X_j = B_i               dL/dB = A^-H dL/dX,  dL/dA = -dL/dB X^H
    sum_j Y_ij A_jk = [i = k]          dL/dA = -Y^H dL/dY Y^H

with i and j a group of axes each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.ops.permute import movedim
from manual_bp.ops.solve import inv, invertible, solve
from manual_bp.ops.view import reshape
from manual_bp.spec import Draw, Sample, Spec, sample


def tensorinv(input: Tensor, ind: int = 2) -> Tensor:
    """The inverse as a map from the last axes to the first; as ``torch.linalg.tensorinv``.

    Args:
        input: of as many elements in its first ``ind`` axes as in the others
        ind: how many axes count as rows

    Returns:
        The last axes of ``input``, and then its first ``ind``.

    Raises:
        RuntimeError: From torch, where it is no square.
    """
    rows, columns = input.shape[: max(ind, 0)], input.shape[max(ind, 0) :]
    if ind <= 0 or math.prod(rows) != math.prod(columns):
        return torch.linalg.tensorinv(input, ind)  # which says so
    matrix = reshape(input, math.prod(rows), math.prod(columns))
    return reshape(inv(matrix), *columns, *rows)


def tensorsolve(input: Tensor, other: Tensor, dims: Any = None) -> Tensor:
    """X of which the product with ``input`` over its last axes is ``other``.

    As ``torch.linalg.tensorsolve``.

    Args:
        input: A, its first axes as those of ``other``, and as many elements in the others
        other: B
        dims: axes of ``input`` that are first moved to its end

    Returns:
        The last axes of ``input``.

    Raises:
        RuntimeError: From torch, where it is no square.
    """
    A = input
    if dims is not None:
        A = movedim(A, tuple(dims), tuple(range(-len(dims), 0)))
    shape = A.shape[other.dim() :]
    if math.prod(shape) != math.prod(A.shape[: other.dim()]):
        return torch.linalg.tensorsolve(input, other, dims)  # which says so
    matrix = reshape(A, math.prod(shape), math.prod(shape))
    return reshape(solve(matrix, reshape(other, -1)), *shape)


def _tensorinv_samples(draw: Draw) -> Iterator[Sample]:
    A = invertible(draw, 6, 6).detach().view(2, 3, 6).requires_grad_()
    yield sample(A)


def _tensorinv_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5), label="not square")
    yield sample(draw(2, 3, 5), 0, label="no rows")


def _tensorsolve_samples(draw: Draw) -> Iterator[Sample]:
    A = invertible(draw, 6, 6).detach().view(2, 3, 6)
    yield sample(A.clone().requires_grad_(), draw(2, 3))
    yield sample(A.movedim(-1, 0).clone().requires_grad_(), draw(2, 3), (0,), label="dims")


def _tensorsolve_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5), draw(2, 3), label="not square")


TENSORINV = Spec(
    name="tensorinv",
    formula="Y = A^-1, rows and columns of several axes",
    gradient="dA = -Y^H dY Y^H",
    manual=tensorinv,
    native=torch.linalg.tensorinv,
    samples=_tensorinv_samples,
    refused=_tensorinv_refused,
)
TENSORSOLVE = Spec(
    name="tensorsolve",
    formula="A X = B, rows and columns of several axes",
    gradient="dB = A^-H dX,  dA = -dB X^H",
    manual=tensorsolve,
    native=torch.linalg.tensorsolve,
    samples=_tensorsolve_samples,
    refused=_tensorsolve_refused,
)
