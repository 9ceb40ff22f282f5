r"""Grid sampling: an image read at places that a network may choose.

Indices: ``p`` place of the output; ``u`` its coordinate in the image along an axis, ``t`` one of
the pixels around u, ``w_t(u)`` the weight of that pixel; an image has two axes of these, ``x``
(along a row, first in the grid) and ``y``, a volume has ``z`` too.

Forward, with pixels outside the image 0, or at the border, or mirrored (``padding_mode``)::

    u    = ((grid + 1) W - 1) / 2         or (grid + 1) / 2 (W - 1) with align_corners
    y_cp = sum_ts w_t(u_y) w_s(u_x) x_cts

    bilinear   w_t(u) = 1 - |u - t|       the two pixels around u
    bicubic    w_t(u) = cubic(|u - t|)    the four pixels around u
    nearest    w_t(u) = 1                 the nearest alone

Backward. As a sum over pixels y is linear in x; as a product of weights it is differentiated
axis by axis, and summed over channels, since all of them are read at one place::

    dL/dx_cts    = sum_p dL/dy_cp w_t(u_y) w_s(u_x)                         (N, C, H, W)
    dL/dgrid_p,x = du/dgrid sum_ts w_t(u_y) w_s'(u_x) sum_c dL/dy_cp x_cts  (N, H', W', 2)

du/dgrid is W / 2 (or (W - 1) / 2), 0 where u was moved onto the border, with the sign turned where
it was mirrored. The gradient of ``nearest`` to the grid is 0.

Jaderberg et al. (2015), "Spatial Transformer Networks", section 3.3; Keys (1981), "Cubic
convolution interpolation for digital image processing".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class _Taps(NamedTuple):
    """The pixels around each coordinate along one axis: (T, N, P) each, P places of the output."""

    place: Tensor
    inside: Tensor
    weight: Tensor
    slope: Tensor


class GridSampleFunction(Function):
    """``x``: (N, C, H, W) or (N, C, D, H, W); ``grid``: (N, P..., 2) or (N, P..., 3)."""

    @staticmethod
    def forward(
        x: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool | None
    ) -> Tensor:
        return F.grid_sample(x, grid, mode, padding_mode, align_corners)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, grid, *ctx.how = inputs
        ctx.save_for_backward(x, grid)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, grid = ctx.saved_tensors
        x_dtype, grid_dtype = x.dtype, grid.dtype
        grad_y, x, grid = widened(grad_y, x, grid)
        (examples, channels), sizes = x.shape[:2], x.shape[2:]
        pixels, last = math.prod(sizes), x.shape[0] * math.prod(sizes)
        # The grid counts its axes from the last one.
        coordinates = grid.flatten(1, -2).unbind(-1)[::-1]
        axes = [_taps(u, size, *ctx.how) for u, size in zip(coordinates, sizes, strict=True)]
        # One tap of each axis makes a pixel: the taps of all axes stand before (N, P).
        for i in range(len(axes)):
            axes[i] = _Taps(*(t[:, *(None,) * (len(axes) - 1 - i)] for t in axes[i]))
        at = torch.arange(0, last, pixels, device=x.device)[:, None]
        for i, taps in enumerate(axes):
            at = at + taps.place * math.prod(sizes[i + 1 :])
        # Pixels as rows with the channels side by side: a tap is one row to look up. One more
        # row, of zeros, stands for all that is outside.
        inside = _product(taps.inside for taps in axes)
        at = torch.where(inside, at, last)
        grad_rows = grad_y.flatten(2).transpose(1, 2)  # (N, P, C)
        grad_x = grad_g = None
        if ctx.needs_input_grad[0]:
            weight = _product(taps.weight for taps in axes)
            moved = (grad_rows * weight.unsqueeze(-1)).reshape(-1, channels)
            zeros = moved.new_zeros(last + 1, channels)
            image = zeros.index_add(0, at.flatten(), moved)[:-1]
            grad_x = image.view(examples, *sizes, channels).movedim(-1, 1).to(x_dtype)
        if ctx.needs_input_grad[1] and ctx.how[0] == "nearest":
            grad_g = torch.zeros_like(grid, dtype=grid_dtype)
        elif ctx.needs_input_grad[1]:
            rows = F.pad(x.movedim(1, -1).reshape(-1, channels), (0, 0, 0, 1))
            read = rows.index_select(0, at.flatten()).view(*at.shape, channels)
            blame = (read * grad_rows).sum(-1)  # over channels: (T..., N, P)
            taps_axes = tuple(range(len(axes)))
            by_axis = [
                (blame * _product(t.slope if t is one else t.weight for t in axes)).sum(taps_axes)
                for one in reversed(axes)
            ]
            grad_g = torch.stack(by_axis, -1).view_as(grid).to(grid_dtype)
        return grad_x, grad_g, None, None, None


def _product(factors: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.mul, factors)


def _taps(
    grid: Tensor, size: int, mode: str, padding_mode: str, align_corners: bool | None
) -> _Taps:
    """The pixels around each coordinate along one axis, with their weights and slopes."""
    if align_corners:
        u, slope = (grid + 1) / 2 * (size - 1), torch.full_like(grid, (size - 1) / 2)
    else:
        u, slope = ((grid + 1) * size - 1) / 2, torch.full_like(grid, size / 2)
    if mode == "bicubic":  # weights belong to the coordinate as it is; its pixels are moved
        below, around = u.detach().floor(), torch.arange(-1, 3, device=u.device).view(4, 1, 1)
        weight, dw = _cubic(u - below - around)
        place, _ = _moved_inside(below + around, size, padding_mode, align_corners)
    else:
        u, moved = _moved_inside(u, size, padding_mode, align_corners)
        slope = slope * moved
        if mode == "bilinear":
            below = u.detach().floor()
            place = torch.stack([below, below + 1])
            weight = torch.stack([below + 1 - u, u - below])
            dw = torch.tensor([-1.0, 1.0], device=u.device).view(2, 1, 1)
        else:
            place = u.detach().round().unsqueeze(0)
            weight, dw = torch.ones_like(place), torch.zeros_like(place)
    inside = (place >= 0) & (place < size)
    place = torch.where(inside, place, torch.zeros_like(place)).long()
    return _Taps(place, inside, weight, dw * slope)


def _cubic(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Keys's kernel with a = -3/4 at four signed distances (4, N, P), and its derivative."""
    a, d, sign = -0.75, distance.abs(), distance.sign()
    near = torch.tensor([False, True, True, False], device=d.device).view(4, 1, 1)
    weight = torch.where(
        near,
        ((a + 2) * d - (a + 3)) * d * d + 1,  # up to a distance of 1
        ((a * d - 5 * a) * d + 8 * a) * d - 4 * a,  # from 1 to 2
    )
    slope = torch.where(near, (3 * (a + 2) * d - 2 * (a + 3)) * d, (3 * a * d - 10 * a) * d + 8 * a)
    return weight, slope * sign


def _moved_inside(
    u: Tensor, size: int, padding_mode: str, align_corners: bool | None
) -> tuple[Tensor, Tensor | float]:
    """A coordinate as the padding sees it, and the derivative of that: 1, -1 or 0."""
    if padding_mode == "zeros":
        return u, 1.0
    sign: Tensor | float = 1.0
    if padding_mode == "reflection":
        low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
        if span == 0:
            return torch.zeros_like(u), 0.0
        beyond = u - low
        sign = torch.where(beyond < 0, -1.0, 1.0)
        beyond = beyond.abs()
        odd = (beyond.detach() / span).floor() % 2 == 1
        sign = torch.where(odd, -sign, sign)
        along = beyond.fmod(span)
        u = torch.where(odd, span - along, along) + low
    # A coordinate on the border counts as moved there, as PyTorch has it.
    free = (u > 0) & (u < size - 1)
    return torch.where(free, u, u.detach().clamp(0, size - 1)), sign * free.to(u.dtype)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Read an image at the places of a grid; as ``torch.nn.functional.grid_sample``.

    Args:
        input: (N, C, H, W) or (N, C, D, H, W)
        grid: (N, H', W', 2) or (N, D', H', W', 3), coordinates (x, y) or (x, y, z), of which -1
            and 1 are the ends of the image
        mode: "bilinear" (in a volume, too), "nearest" or "bicubic" (4-D)
        padding_mode: "zeros", "border" or "reflection"
        align_corners: whether -1 and 1 are the centres of the outer pixels or their outer edges

    Returns:
        (N, C, H', W') or (N, C, D', H', W'), in the dtype of ``input``.

    Raises:
        ValueError, RuntimeError: From torch, for an unknown mode and shapes that do not fit.
    """
    return GridSampleFunction.apply(input, grid, mode, padding_mode, align_corners)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5, 6), draw(2, 3, 4, 2, scale=0.6), align_corners=False)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding, corners in (("zeros", True), ("border", False)):
            grid = draw(1, 2, 5, 2, scale=1.1)
            label = f"{mode} {padding}"
            yield sample(draw(1, 2, 3, 4), grid, mode, padding, corners, label=label)
    for mode in ("bilinear", "nearest"):
        volume, grid = draw(2, 2, 3, 2, 4), draw(2, 2, 1, 3, 3)
        yield sample(volume, grid, mode, "border", True, label=f"{mode}, a volume")
    ends = draw.values(-1, -1, 1, 1, 0, 0, -1, 0.5, 3, -1).view(1, 1, 5, 2).detach()
    grid = ends.requires_grad_()
    yield sample(draw(1, 2, 3, 4), grid, "bilinear", "border", True, label="kinks", smooth=False)
    yield sample(draw(0, 3, 5, 6), draw(0, 3, 4, 2), align_corners=False, label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    x, grid = draw(2, 3, 5, 6), draw(2, 3, 4, 2)
    yield sample(x, grid, "linear", align_corners=False, label="a mode unknown")
    yield sample(x, grid, "bilinear", "mirror", False, label="a padding unknown")
    yield sample(x, draw(1, 3, 4, 2), align_corners=False, label="examples differ")
    yield sample(x, draw(2, 3, 4, 3), align_corners=False, label="coordinates differ")
    volume = draw(2, 3, 4, 5, 6), draw(2, 3, 4, 5, 3)
    yield sample(*volume, "bicubic", align_corners=False, label="a cubic volume")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(8, 4, 8, 8), draw(8, 8, 8, 2, scale=0.5), align_corners=False)
    yield sample(draw(32, 16, 28, 28), draw(32, 28, 28, 2, scale=0.5), align_corners=False)


SPEC = Spec(
    name="grid_sample",
    formula="y_p = sum_ts w_t(u_y) w_s(u_x) x_ts",
    gradient="dx_ts = sum_p dy_p w_t w_s,  dgrid = du/dgrid sum_ts w_t w_s' sum_c dy_p x_ts",
    manual=grid_sample,
    native=F.grid_sample,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
