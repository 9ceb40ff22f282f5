r"""Products of two vectors: vecdot and vdot, cross, and the outer one of addr.

Forward and backward, along one axis of each; the others broadcast. ``x'`` is the complex conjugate
of ``x``, for real numbers ``x`` itself::

    vecdot   z = sum_i x'_i y_i         dL/dx_i = (dL/dz)' y_i       dL/dy_i = dL/dz x_i
    cross    z = x ^ y                  dL/dx = y' ^ dL/dz           dL/dy = dL/dz ^ x'
    addr     Z = beta C + alpha x y^T   dL/dx = alpha dL/dZ y'           dL/dy = alpha dL/dZ^T x'
                                        dL/dC = beta dL/dZ

The second line is the cyclic rule of the triple product: g . (x ^ y) = x . (y ^ g) = y . (g ^ x).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import Function, under_autocast, widened
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class VecdotFunction(Function):
    """``x`` and ``y``: shapes that broadcast; ``dim``: their axis, None for the only one."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, dim: int | None) -> Tensor:
        return torch.vdot(x, y) if dim is None else torch.linalg.vecdot(x, y, dim=dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, dim = inputs
        dim = -1 if dim is None else dim
        ctx.dim = dim if dim < 0 else dim - max(x.dim(), y.dim())
        ctx.shape = torch.broadcast_shapes(x.shape, y.shape)
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        if ctx.shape:  # numbers have no axis to lose
            grad_z = grad_z.unsqueeze(ctx.dim)
        g, x_wide, y_wide = widened(grad_z, x, y)
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced((g.conj() * y_wide).expand(ctx.shape), *kind(x))  # type: ignore[misc]
        if ctx.needs_input_grad[1]:
            grad_y = reduced((g * x_wide).expand(ctx.shape), *kind(y))  # type: ignore[misc]
        return grad_x, grad_y, None


class CrossFunction(Function):
    """``x`` and ``y``: shapes that broadcast; ``dim``: an axis of 3, None for the first."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, dim: int | None) -> Tensor:
        return torch.cross(x, y) if dim is None else torch.linalg.cross(x, y, dim=dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, dim = inputs
        ctx.dim = (list(output.shape).index(3) if dim is None else dim) - output.dim()
        ctx.dim = dim if dim is not None and dim < 0 else ctx.dim  # from the end
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_x = reduced(torch.linalg.cross(y.conj(), grad_z, dim=ctx.dim), *kind(x))  # type: ignore[misc]
        if ctx.needs_input_grad[1]:
            grad_y = reduced(torch.linalg.cross(grad_z, x.conj(), dim=ctx.dim), *kind(y))  # type: ignore[misc]
        return grad_x, grad_y, None


class AddrFunction(Function):
    """``c``: a shape that broadcasts to (I, J); ``x``: (I); ``y``: (J)."""

    @staticmethod
    def forward(c: Tensor, x: Tensor, y: Tensor, beta: float, alpha: float) -> Tensor:
        return torch.addr(c, x, y, beta=beta, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        c, x, y, beta, alpha = inputs
        ctx.c = kind(c)
        ctx.beta, ctx.alpha = beta.conjugate(), alpha.conjugate()
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        g, x_wide, y_wide = widened(grad_z, x, y)
        grad_c = grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_c = reduced(grad_z, *ctx.c)
            grad_c = grad_c if ctx.beta == 1 else grad_c * ctx.beta
        if ctx.needs_input_grad[1]:
            grad_x = (g * y_wide.conj()).sum(-1) * ctx.alpha
            grad_x = reduced(grad_x, *kind(x))  # type: ignore[misc]
        if ctx.needs_input_grad[2]:
            grad_y = (g * x_wide.conj().unsqueeze(-1)).sum(-2) * ctx.alpha
            grad_y = reduced(grad_y, *kind(y))  # type: ignore[misc]
        return grad_c, grad_x, grad_y, None, None


@under_autocast("lower")
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """``sum_i x'_i y_i`` along ``dim``; as ``torch.linalg.vecdot``.

    Args:
        x: any shape with an axis
        y: a shape that broadcasts with it
        dim: an axis

    Returns:
        The broadcast shape without ``dim``.

    Raises:
        RuntimeError: From torch, where the shapes do not broadcast.
    """
    return VecdotFunction.apply(x, y, dim)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """``sum_i x'_i y_i`` of two vectors; as ``torch.vdot``.

    Raises:
        RuntimeError: From torch, for what are no vectors of one length.
    """
    if input.dim() != 1 or input.shape != other.shape or input.dtype != other.dtype:
        return torch.vdot(input, other)  # which says what is wrong
    return VecdotFunction.apply(input, other, None)


def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product along ``dim``; as ``torch.linalg.cross``.

    Args:
        input: any shape with an axis of 3
        other: a shape that broadcasts with it
        dim: that axis

    Raises:
        RuntimeError: From torch, where the axis is not of 3 or the shapes do not broadcast.
    """
    return CrossFunction.apply(input, other, dim)


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """``linalg_cross`` along ``dim``, or the first axis of 3; as ``torch.cross``."""
    return CrossFunction.apply(input, other, dim)


@under_autocast("lower", devices=("cuda",))
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * vec1 vec2^T`` with its gradients by hand; as ``torch.addr``.

    Args:
        input: a shape that broadcasts to (I, J)
        vec1: (I)
        vec2: (J)
        beta: factor of ``input``
        alpha: factor of the product

    Raises:
        RuntimeError: From torch, where shapes do not fit.
    """
    return AddrFunction.apply(input, vec1, vec2, beta, alpha)


def _vecdot_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3))
    yield sample(draw(2, 4, 3), draw(4, 1), dim=1, label="broadcast, an axis")


def _vdot_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), draw(4))


def _cross_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), dim=1)
    yield sample(draw(3, 2, 4), draw(3, 1, 1), dim=-3, label="broadcast")


def _addr_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), draw(3))
    yield sample(draw(3), draw(4), draw(3), beta=0.5, alpha=-2, label="a row, factors")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 2), draw(4, 2), dim=1, label="not of 3")


def _vdot_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), draw(3), label="lengths differ")


VECDOT = Spec(
    name="vecdot",
    formula="z = sum_i x'_i y_i",
    gradient="dx_i = dz' y_i,  dy_i = dz x_i",
    manual=vecdot,
    native=torch.linalg.vecdot,
    samples=_vecdot_samples,
)
VDOT = Spec(
    name="vdot",
    formula="z = sum_i x'_i y_i",
    gradient="dx_i = dz' y_i,  dy_i = dz x_i",
    manual=vdot,
    native=torch.vdot,
    overrides=(torch.Tensor.vdot,),
    samples=_vdot_samples,
    refused=_vdot_refused,
)
CROSS = Spec(
    name="cross",
    formula="z = x ^ y",
    gradient="dx = y' ^ dz,  dy = dz ^ x'",
    manual=linalg_cross,
    native=torch.linalg.cross,
    inplace={torch.cross: cross, torch.Tensor.cross: cross},
    samples=_cross_samples,
    refused=_refused,
)
ADDR = Spec(
    name="addr",
    formula="z = beta c + alpha x y^T",
    gradient="dc = beta dz,  dx = alpha dz y,  dy = alpha dz^T x",
    manual=addr,
    native=torch.addr,
    overrides=(torch.Tensor.addr,),
    inplace={torch.Tensor.addr_: in_place(addr)},
    samples=_addr_samples,
)
