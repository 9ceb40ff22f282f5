r"""Affine grid: where each pixel of the output lies in the input, under an affine map.

Indices: ``n`` example, ``p`` place of the output, ``i`` coordinate of the input, ``j`` coordinate
of the output; after the coordinates of the output stands a 1, for the shift.

Forward, with b_p = (x_p, y_p, 1) or (x_p, y_p, z_p, 1) evenly spaced between -1 and 1::

    grid_npi = sum_j theta_nij b_pj           (N, H, W, 2) or (N, D, H, W, 3)

Backward. It is a linear layer whose weights are its argument and whose inputs, b, are fixed::

    dL/dtheta_nij = sum_p dL/dgrid_npi b_pj   grad^T b      (N, 2, 3) or (N, 3, 4)

b need not be made: it is the grid of the identity map.

Jaderberg et al. (2015), "Spatial Transformer Networks", section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class AffineGridFunction(Function):
    """``theta``: (N, 2, 3) or (N, 3, 4); ``size``: (N, C, H, W) or (N, C, D, H, W)."""

    generate_vmap_rule = False  # torch has none for its forward either

    @staticmethod
    def forward(theta: Tensor, size: list[int], align_corners: bool | None) -> Tensor:
        return F.affine_grid(theta, size, align_corners)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.size, ctx.align_corners = inputs

    @staticmethod
    def backward(ctx: Any, grad_grid: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = widened(grad_grid)
        dims = len(ctx.size) - 2
        identity = torch.eye(dims, dims + 1, dtype=grad.dtype, device=grad.device)[None]
        corners = bool(ctx.align_corners)
        places = F.affine_grid(identity, [1, *ctx.size[1:]], corners).view(-1, dims)
        places = F.pad(places, (0, 1), value=1.0)  # (P, j)
        grad_theta = grad.flatten(1, -2).transpose(1, 2) @ places
        return grad_theta.to(grad_grid.dtype), None, None


def affine_grid(theta: Tensor, size: list[int], align_corners: bool | None = None) -> Tensor:
    """The grid of an affine map; as ``torch.nn.functional.affine_grid``.

    Args:
        theta: (N, 2, 3) or (N, 3, 4), a map and a shift for each example
        size: of the output image, (N, C, H, W) or (N, C, D, H, W)
        align_corners: whether -1 and 1 are the centres of the outer pixels or their outer edges

    Returns:
        (N, H, W, 2) or (N, D, H, W, 3), for ``grid_sample``, in the dtype of ``theta``.

    Raises:
        ValueError, NotImplementedError: From torch, where ``theta`` and ``size`` do not fit.
    """
    return AffineGridFunction.apply(theta, size, align_corners)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 2, 3), (2, 3, 4, 5), False)
    yield sample(draw(2, 2, 3), (2, 3, 4, 5), True, label="corners")
    yield sample(draw(2, 3, 4), [2, 1, 3, 2, 4], False, label="a volume")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 3), (2, 3, 4, 5), False, label="a map of other axes")
    yield sample(draw(2, 2, 3), (2, 3, 4), False, label="a line")
    yield sample(draw(2, 2, 3), (2, 3, 0, 5), False, label="an image of nothing")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 2, 3), (8, 3, 16, 16), False)
    yield sample(draw(32, 2, 3), (32, 3, 112, 112), False)


SPEC = Spec(
    name="affine_grid",
    formula="grid_pi = sum_j theta_ij b_pj",
    gradient="dtheta_ij = sum_p dgrid_pi b_pj",
    manual=affine_grid,
    native=F.affine_grid,
    samples=_samples,
    refused=_refused,
    bench=_bench,
    vmap=False,
)
