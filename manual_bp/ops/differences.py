r"""Differences and integrals along an axis: diff, gradient, trapezoid and their like.

Indices: ``i`` place along the axis, S places. Forward and backward of ``diff``::

    y_i = x_(i+1) - x_i                     S - 1 of them
    dL/dx_i = dL/dy_(i-1) - dL/dy_i         with dL/dy = 0 before the first and behind the last

so the backward is minus the ``diff`` of dL/dy with a zero put at both ends, and n times over with
n zeros: the discrete form of integration by parts.

The others are sums of products of slices, by hand already, and so are their gradients. With a
spacing h, or h_i = t_(i+1) - t_i between given places t::

    trapezoid              y = sum_i h_i (x_i + x_(i+1)) / 2       the area under a line graph
    cumulative_trapezoid   the same sum, as it grows
    gradient               y_i = (x_(i+1) - x_(i-1)) / 2h          inside; one-sided at the ends

The three-point formula of ``gradient`` for unequal h is that of Fornberg (1988), "Generation of
Finite Difference Formulas on Arbitrarily Spaced Grids": the slope of the parabola through them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, nothing_to_do
from manual_bp.ops.add import add, sub
from manual_bp.ops.cat import cat
from manual_bp.ops.clone import clone
from manual_bp.ops.cumsum import cumsum
from manual_bp.ops.div import div
from manual_bp.ops.mul import mul
from manual_bp.ops.narrow import narrow
from manual_bp.ops.sum import sum
from manual_bp.ops.view import view
from manual_bp.spec import Draw, Sample, Spec, sample


class DiffFunction(Function):
    """``x``: any shape; ``n``: how often, at most the size of the axis ``dim``."""

    @staticmethod
    def forward(x: Tensor, n: int, dim: int) -> Tensor:
        return torch.diff(x, n, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.n, dim = inputs
        ctx.dim = dim % x.dim() - x.dim()  # from the end: vmap puts axes in front

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        axes_behind = -1 - ctx.dim
        padded = torch.nn.functional.pad(grad_y, [0, 0] * axes_behind + [ctx.n, ctx.n])
        return padded.diff(ctx.n, ctx.dim) * (-1) ** ctx.n, None, None


def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The ``n``-th differences along ``dim``; as ``torch.diff``.

    Args:
        input: any shape with an axis
        n: how often the difference is taken
        dim: an axis
        prepend: what is put before ``input`` along ``dim`` first
        append: what is put behind it

    Raises:
        RuntimeError: From torch, where there is no axis or shapes do not fit.
    """
    parts = [x for x in (prepend, input, append) if x is not None]
    if nothing_to_do(*parts) or any(x.dim() != max(input.dim(), 1) for x in parts) or n < 0:
        return torch.diff(input, n, dim, prepend, append)  # which says what is wrong
    if n == 0:
        return clone(input)
    x = cat(parts, dim) if len(parts) > 1 else input
    return DiffFunction.apply(x, min(n, x.shape[dim]), dim)


def _but_last(x: Tensor, dim: int) -> Tensor:
    return narrow(x, dim, 0, x.shape[dim] - 1)


def _but_first(x: Tensor, dim: int) -> Tensor:
    return narrow(x, dim, 1, x.shape[dim] - 1)


def _areas(y: Tensor, x: Any, dx: Any, dim: int) -> Tensor | None:
    """``h_i (y_i + y_(i+1)) / 2``; None for what torch has to say something about."""
    if y.dim() == 0 or not -y.dim() <= dim < y.dim() or y.shape[dim] == 0:
        return None
    if x is None:
        h = 1 if dx is None else dx
    else:
        if x.dim() == 0 or x.shape[-1 if x.dim() == 1 else dim] != y.shape[dim]:
            return None
        h = diff(x, 1, -1 if x.dim() == 1 else dim)
        if x.dim() == 1:  # one scale for all rows, along the axis dim
            h = view(h, [-1, *[1] * (y.dim() - 1 - dim % y.dim())])
        elif x.dim() < y.dim():
            h = view(h, [1] * (y.dim() - x.dim()) + list(h.shape))
    return div(mul(add(_but_first(y, dim), _but_last(y, dim)), h), 2.0)


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The area under ``y`` along ``dim``, by trapezoids; as ``torch.trapezoid``.

    Args:
        y: any shape with an axis, S long
        x: the places of the S values: (S), or a shape that broadcasts with that of ``y``
        dx: their distance, instead of ``x``; 1 without either
        dim: an axis

    Returns:
        The shape of ``y`` without ``dim``.

    Raises:
        RuntimeError: From torch, where there is no axis or the places are not S.
    """
    if nothing_to_do(y, x) or (areas := _areas(y, x, dx, dim)) is None:
        return torch.trapezoid(y, *_places(x, dx)[0], dim=dim, **_places(x, dx)[1])
    return sum(areas, dim)


def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1
) -> Tensor:
    """``trapezoid`` up to each place but the first; as ``torch.cumulative_trapezoid``."""
    if nothing_to_do(y, x) or (areas := _areas(y, x, dx, dim)) is None:
        return torch.cumulative_trapezoid(y, *_places(x, dx)[0], dim=dim, **_places(x, dx)[1])
    return cumsum(areas, dim)


def _places(x: Tensor | None, dx: Any) -> tuple[list[Tensor], dict[str, Any]]:
    return ([] if x is None else [x]), ({} if dx is None else {"dx": dx})


def gradient(
    input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1
) -> list[Tensor] | tuple[Tensor, ...]:
    """The slopes of sampled values along each axis; as ``torch.gradient``.

    Args:
        input: any shape
        spacing: the distance of the samples, one number for all axes or one for each; or a list
            with their places, a vector for each
        dim: axes; None for all
        edge_order: 1 for the slope of a line at the ends, 2 for that of a parabola

    Returns:
        The shape of ``input``, once for each axis.

    Raises:
        RuntimeError: From torch, where there are too few samples or spacings do not fit.
    """
    with torch.no_grad():  # what torch may say against the arguments
        expected = torch.gradient(input, spacing=spacing, dim=dim, edge_order=edge_order)
    spacing = 1 if spacing is None else spacing
    several = spacing if isinstance(spacing, (list, tuple)) else [spacing] * len(expected)
    if nothing_to_do(input, *several):
        return expected
    axes = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    return tuple(_slope(input, h, d, edge_order) for h, d in zip(several, axes, strict=True))


def _slope(x: Tensor, spacing: Any, dim: int, edge_order: int) -> Tensor:
    """Of the parabola through three neighbours: a h_0 and a h_1 apart, values left, at and right.

    In the middle it is the mean of the two lines' slopes, each weighted by the other's distance.
    """
    size = x.shape[dim]
    lines = diff(x, 1, dim)
    if isinstance(spacing, Tensor):
        h = view(diff(spacing), [-1, *[1] * (x.dim() - 1 - dim % x.dim())])
        lines = div(lines, h)
        left, right = _but_last(lines, dim), _but_first(lines, dim)
        h_0, h_1 = _but_last(h, -h.dim()), _but_first(h, -h.dim())
        middle = add(right, mul(sub(left, right), div(h_1, add(h_0, h_1))))
    else:
        lines = div(lines, spacing)
        middle = sub(narrow(x, dim, 2, size - 2), narrow(x, dim, 0, size - 2))
        middle = div(middle, 2 * spacing)
    first, last = narrow(lines, dim, 0, 1), narrow(lines, dim, size - 2, 1)
    if edge_order == 2:
        # A parabola's slope changes evenly: its mean over a line is the line's own.
        first = sub(mul(first, 2), narrow(middle, dim, 0, 1))
        last = sub(mul(last, 2), narrow(middle, dim, size - 3, 1))
    return cat([first, middle, last], dim)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(6, 2), 2, 0, draw(1, 2), draw.fixed(2, 2), label="twice, extended")
    yield sample(draw(2, 3), 5, label="more often than there is")


def _area_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))
    yield sample(draw(4, 3), dx=0.5, dim=0, label="evenly")


def _gradient_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), spacing=0.5)
    yield sample(draw(4, 5), spacing=[draw.uniform(5).cumsum(0)], dim=1, label="places")
    yield sample(draw(4, 3), spacing=2.0, dim=(1, 0), edge_order=2, label="parabolas")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(), label="no axis")


def _area_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="places")


def _gradient_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 1), label="one sample")


DIFF = Spec(
    name="diff",
    formula="y_i = x_(i+1) - x_i",
    gradient="dx_i = dy_(i-1) - dy_i",
    manual=diff,
    native=torch.diff,
    overrides=(torch.Tensor.diff,),
    samples=_samples,
    refused=_refused,
)
TRAPEZOID = Spec(
    name="trapezoid",
    formula="y = sum_i h_i (x_i + x_(i+1)) / 2",
    gradient="dx_i = dy (h_(i-1) + h_i) / 2",
    manual=trapezoid,
    native=torch.trapezoid,
    overrides=(torch.trapz,),
    inplace={torch.cumulative_trapezoid: cumulative_trapezoid},
    samples=_area_samples,
    refused=_area_refused,
)
GRADIENT = Spec(
    name="gradient",
    formula="y_i = (x_(i+1) - x_(i-1)) / 2h",
    gradient="dx_i = (dy_(i-1) - dy_(i+1)) / 2h",
    manual=gradient,
    native=torch.gradient,
    samples=_gradient_samples,
    refused=_gradient_refused,
)
