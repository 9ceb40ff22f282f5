r"""Distance and limit by a p-norm: dist, renorm.

Made of the norm (see ``manual_bp/ops/norm.py``) and arithmetic, by hand already, and so are their
gradients::

    dist     y = ||x - z||_p
    renorm   y_i = x_i c / ||x_i||_p  for the slices i whose norm is above c,  else x_i

A slice that is held at the limit can move along the sphere only: what of dL/dy_i points along x_i
does not come through (for p = 2), as in ``normalize``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import nothing_to_do, under_autocast
from manual_bp.ops.add import add, sub
from manual_bp.ops.mul import mul
from manual_bp.ops.norm import vector_norm
from manual_bp.ops.power import reciprocal
from manual_bp.ops.where import where
from manual_bp.spec import Draw, Sample, Spec, sample


@under_autocast("float32", devices=("cuda",))
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference; as ``torch.dist``.

    Args:
        input: any shape
        other: a shape that broadcasts with it
        p: order of the norm, also 0, inf and -inf

    Returns:
        A number.
    """
    return vector_norm(sub(input, other), p)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices along ``dim``, made shorter where their norm is above a limit; as ``torch.renorm``.

    Args:
        input: at least two axes
        p: order of the norm, above 0
        dim: each place along this axis is a slice
        maxnorm: the limit, at least 0

    Raises:
        RuntimeError: From torch, for other arguments.
    """
    fits = input.dim() > 1 and p > 0 and maxnorm >= 0 and -input.dim() <= dim < input.dim()
    if not fits or nothing_to_do(input):
        return torch.renorm(input, p, dim, maxnorm)  # which says what is wrong
    others = tuple(d for d in range(input.dim()) if d != dim % input.dim())
    wide = torch.float32 if input.dtype in (torch.bfloat16, torch.float16) else None
    norm = vector_norm(input, p, others, True, dtype=wide)
    # Torch divides by a little more than the norm.
    factor = mul(reciprocal(add(norm, 1e-7)), maxnorm)
    factor = where(norm > maxnorm, factor, torch.ones_like(norm))
    return mul(input, factor.to(input.dtype))


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))
    yield sample(draw(4, 3), draw(4, 3), 1, label="p = 1")


def _renorm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 0, 1.5)
    yield sample(draw(2, 3, 4), 1, -2, 3.0, label="p = 1, an axis")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, 0, -1.0, label="a negative limit")
    yield sample(draw(4), 2, 0, 1.0, label="a vector")


DIST = Spec(
    name="dist",
    formula="y = ||x - z||_p",
    gradient="dx = dy sign(d) (|d| / y)^(p-1),  dz = -dx,  d = x - z",
    manual=dist,
    native=torch.dist,
    overrides=(torch.Tensor.dist,),
    samples=_samples,
)
RENORM = Spec(
    name="renorm",
    formula="y_i = x_i c / ||x_i||_p where that is above c, else x_i",
    gradient="dx_i = c / ||x_i|| (dy_i - the part along x_i), else dy_i",
    manual=renorm,
    native=torch.renorm,
    overrides=(torch.Tensor.renorm,),
    inplace={torch.Tensor.renorm_: in_place(renorm)},
    samples=_renorm_samples,
    refused=_refused,
)
