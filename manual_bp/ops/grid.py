r"""Grids and choices: meshgrid, broadcast_tensors, cartesian_prod, combinations, kron.

What one tensor holds meets all of what the others hold. Each is made of operations that are by
hand already, a view with axes of size 1 first, and so is its gradient::

    broadcast_tensors   y_k = x_k, expanded to the common shape
    meshgrid            y_k[i_1, i_2, ...] = x_k[i_k]
    cartesian_prod      the grids, flattened, as columns
    combinations        the grids where i_1 < i_2 < ..., as columns
    kron                y[(i a), (j b)] = x_ij z_ab: a product that broadcasts, reshaped

Backward: a number is blamed wherever it was put, which the expansion's backward adds up::

    dL/dx_k[i_k] = sum of dL/dy_k[i_1, i_2, ...] over the other axes
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import nothing_to_do
from manual_bp.ops.cat import stack
from manual_bp.ops.expand import expand
from manual_bp.ops.getitem import getitem
from manual_bp.ops.mul import mul
from manual_bp.ops.view import flatten, reshape, view
from manual_bp.spec import Draw, Sample, Spec, sample


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor expanded to the shape that all broadcast to; as ``torch.broadcast_tensors``.

    Raises:
        RuntimeError: From torch, with the shapes, where they do not broadcast.
    """
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return tuple(expand(x, shape) for x in tensors)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid, one tensor for each of its axes; as ``torch.meshgrid``.

    Args:
        tensors: (N_k) or no axis, one for each axis of the grid; or one list of them
        indexing: "ij", or "xy" for the first two axes exchanged; None for "ij", with torch's
            warning

    Returns:
        As many tensors, (N_1, N_2, ...) each; views.

    Raises:
        RuntimeError: From torch, for a tensor of more axes or another ``indexing``.
    """
    given = tensors
    if len(tensors) == 1 and not isinstance(tensors[0], Tensor):
        given = tuple(tensors[0])
    with torch.no_grad():  # views: the shapes, and what torch may say against the arguments
        grids = torch.meshgrid(*given, indexing=indexing)
    if nothing_to_do(*given):
        return grids
    found = []
    for k, (x, grid) in enumerate(zip(given, grids, strict=True)):
        axis = 1 - k if indexing == "xy" and k < 2 <= len(given) else k
        shape = [1] * len(given)
        shape[axis] = x.numel()
        found.append(expand(view(x, shape), grid.shape))
    return tuple(found)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every choice of one element of each vector, as a row; as ``torch.cartesian_prod``.

    Args:
        tensors: (N_k)

    Returns:
        (N_1 N_2 ..., number of tensors); a single vector as it is.

    Raises:
        RuntimeError: From torch, for what is no vector.
    """
    if len(tensors) < 2 or any(x.dim() != 1 for x in tensors):
        return torch.cartesian_prod(*tensors)  # which says what is wrong
    return stack([flatten(grid) for grid in meshgrid(*tensors, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of ``r`` elements of a vector, in order; as ``torch.combinations``.

    Args:
        input: (N)
        r: how many
        with_replacement: whether an element may be chosen again

    Returns:
        (number of choices, r)

    Raises:
        RuntimeError: From torch, for what is no vector.
    """
    if input.dim() != 1 or r < 1 or nothing_to_do(input):
        return torch.combinations(input, r, with_replacement)  # which says what is wrong
    places = torch.arange(input.shape[0], device=input.device).expand(r, -1)
    corners = torch.stack(torch.meshgrid(*places, indexing="ij"))
    before, after = corners[:-1], corners[1:]
    chosen = (before <= after if with_replacement else before < after).all(0)
    return stack([getitem(x, chosen) for x in meshgrid(*[input] * r, indexing="ij")], 1)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: ``other`` times each element of ``input``; as ``torch.kron``.

    Args:
        input: any shape
        other: any shape; the one with fewer axes gets more in front

    Returns:
        The sizes multiplied, axis by axis.
    """
    if nothing_to_do(input, other):
        return torch.kron(input, other)
    axes = max(input.dim(), other.dim())
    left = [1] * (axes - input.dim()) + list(input.shape)
    right = [1] * (axes - other.dim()) + list(other.shape)
    product = mul(
        reshape(input, [size for n in left for size in (n, 1)]),
        reshape(other, [size for n in right for size in (1, n)]),
    )
    return reshape(product, [m * n for m, n in zip(left, right, strict=True)])


def _grid_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), draw(), draw(2), indexing="xy")
    yield sample([draw(3), draw(2)], indexing="ij", label="a list")


def _vectors(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), draw(2), draw(4))


def _combination_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4))
    yield sample(draw(3), 3, True, label="three, with replacement")


def _kron_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), draw(4, 2))
    yield sample(draw(3), draw(2, 1, 2), label="axes differ")


MESHGRID = Spec(
    name="meshgrid",
    formula="y_k[i_1, i_2, ...] = x_k[i_k]",
    gradient="dx_k[i_k] = sum of dy_k over the other axes",
    manual=meshgrid,
    native=torch.meshgrid,
    inplace={
        torch.broadcast_tensors: broadcast_tensors,
        torch.cartesian_prod: cartesian_prod,
    },
    samples=_grid_samples,
)
COMBINATIONS = Spec(
    name="combinations",
    formula="y_m = (x_i(m), x_j(m), ...)",
    gradient="dx_i = sum of dy wherever x_i was put",
    manual=combinations,
    native=torch.combinations,
    samples=_combination_samples,
    skip=("large",),  # of N numbers come N^2 / 2 pairs
    compiles=False,  # how many are chosen is not known in advance
)
KRON = Spec(
    name="kron",
    formula="y[(i a), (j b)] = x_ij z_ab",
    gradient="dx_ij = sum_ab dy[(i a), (j b)] z_ab,  dz_ab = sum_ij dy[(i a), (j b)] x_ij",
    manual=kron,
    native=torch.kron,
    overrides=(torch.Tensor.kron,),
    samples=_kron_samples,
)
