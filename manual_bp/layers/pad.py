r"""Padding: a border around the last axes, of a constant or of the signal itself.

Indices: ``q`` place of the input, ``p`` place of the output, ``W`` inputs along an axis, ``l``
places added before them and ``r`` after. A negative number takes places away.

Forward, each axis by itself::

    y_p = x_q(p),   inside: q = p - l;   in the border:

    constant    y_p = value
    replicate   q = 0 before,        W - 1 after            the last pixel again
    reflect     q = l - p before,    2 (W - 1) - (p - l) after      a mirror on the last pixel
    circular    q = p - l + W before,  p - l - W after      round and round

Backward. A copy is blamed on its original, and an original for all of its copies::

    dL/dx_q = sum_p dL/dy_p   over p with q(p) = q          the shape of x

So the border of dL/dy is folded back onto the image: cut off for a constant, added to the last
pixel, turned over, or carried to the far end. Axes are independent; a corner is folded twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class PadFunction(Function):
    """``x``: (..., W); ``padding``: l and r of the last axis, then of the one before it, ..."""

    @staticmethod
    def forward(x: Tensor, padding: tuple[int, ...], mode: str, value: float | None) -> Tensor:
        return F.pad(x, padding, mode, value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.padding, ctx.mode, _ = inputs

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        less = [-n for n in ctx.padding]
        if ctx.mode == "constant":  # what was added is cut off, what was cut off gets zeros
            return F.pad(grad_y, less), None, None, None
        cut = [max(n, 0) for n in less]
        borders = [
            (-1 - i // 2, max(ctx.padding[i], 0), max(ctx.padding[i + 1], 0))
            for i in reversed(range(0, len(less), 2))
        ]
        # torch cuts a circle before it pads it, and cuts the other two after they are padded.
        if ctx.mode == "circular":
            grad_x = _fold(grad_y, borders, ctx.mode)
            return F.pad(grad_x, cut) if any(cut) else grad_x, None, None, None
        grad_y = F.pad(grad_y, cut) if any(cut) else grad_y
        return _fold(grad_y, borders, ctx.mode), None, None, None


def _fold(grad_y: Tensor, borders: list[tuple[int, int, int]], mode: str) -> Tensor:
    """Fold the borders (axis, before, after) onto what they surround: a tensor of its own."""
    if not borders:
        return grad_y.clone()
    (axis, before, after), *others = borders
    size = grad_y.shape[axis] - before - after
    grad_x = _fold(grad_y.narrow(axis, before, size), others, mode)
    for start, count in ((0, before), (before + size, after)):
        if count:
            border = _fold(grad_y.narrow(axis, start, count), others, mode)
            if mode == "replicate":
                border = border.sum(axis, keepdim=True)
                onto = 0 if start == 0 else size - 1
            elif mode == "reflect":
                border = border.flip(axis)
                onto = 1 if start == 0 else size - 1 - count
            else:
                onto = size - count if start == 0 else 0
            grad_x.narrow(axis, onto, border.shape[axis]).add_(border)
    return grad_x


def pad(
    input: Tensor, pad: list[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Add a border, or cut one off; as ``torch.nn.functional.pad``.

    Args:
        input: (..., W); with a mode other than "constant" (N, C, places...) or (C, places...)
        pad: how many places before and after along the last axis, then along the one before it,
            and so on; negative to cut off
        mode: "constant", "reflect", "replicate" or "circular"
        value: of the constant, 0 by default

    Returns:
        (..., before + W + after), in the dtype of ``input``.

    Raises:
        RuntimeError: From torch, where a border is wider than what it is made of.
        NotImplementedError: From torch, for a mode with this many axes.
    """
    return PadFunction.apply(input, tuple(pad), mode, value)


def constant_pad_nd(input: Tensor, pad: list[int], value: float = 0) -> Tensor:
    """``pad`` with a constant; as ``torch.constant_pad_nd``. A complex one is left to torch."""
    if isinstance(value, complex):
        return torch.constant_pad_nd(input, pad, value)
    return PadFunction.apply(input, tuple(pad), "constant", value)


def _constant(self: Any, input: Tensor) -> Tensor:
    """Add a border of a constant."""
    return pad(input, self.padding, "constant", self.value)


def _reflection(self: Any, input: Tensor) -> Tensor:
    """Add a border that mirrors ``input``."""
    return pad(input, self.padding, "reflect")


def _replication(self: Any, input: Tensor) -> Tensor:
    """Add a border of the last pixels."""
    return pad(input, self.padding, "replicate")


def _circular(self: Any, input: Tensor) -> Tensor:
    """Add a border from the far end."""
    self._check_input_dim(input)
    return pad(input, self.padding, "circular")


class ZeroPad1d(torch.nn.ZeroPad1d):
    """``torch.nn.ZeroPad1d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ZeroPad2d(torch.nn.ZeroPad2d):
    """``torch.nn.ZeroPad2d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ZeroPad3d(torch.nn.ZeroPad3d):
    """``torch.nn.ZeroPad3d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ConstantPad1d(torch.nn.ConstantPad1d):
    """``torch.nn.ConstantPad1d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ConstantPad2d(torch.nn.ConstantPad2d):
    """``torch.nn.ConstantPad2d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ConstantPad3d(torch.nn.ConstantPad3d):
    """``torch.nn.ConstantPad3d`` whose gradient is :class:`PadFunction`'s."""

    forward = _constant


class ReflectionPad1d(torch.nn.ReflectionPad1d):
    """``torch.nn.ReflectionPad1d`` whose gradient is :class:`PadFunction`'s."""

    forward = _reflection


class ReflectionPad2d(torch.nn.ReflectionPad2d):
    """``torch.nn.ReflectionPad2d`` whose gradient is :class:`PadFunction`'s."""

    forward = _reflection


class ReflectionPad3d(torch.nn.ReflectionPad3d):
    """``torch.nn.ReflectionPad3d`` whose gradient is :class:`PadFunction`'s."""

    forward = _reflection


class ReplicationPad1d(torch.nn.ReplicationPad1d):
    """``torch.nn.ReplicationPad1d`` whose gradient is :class:`PadFunction`'s."""

    forward = _replication


class ReplicationPad2d(torch.nn.ReplicationPad2d):
    """``torch.nn.ReplicationPad2d`` whose gradient is :class:`PadFunction`'s."""

    forward = _replication


class ReplicationPad3d(torch.nn.ReplicationPad3d):
    """``torch.nn.ReplicationPad3d`` whose gradient is :class:`PadFunction`'s."""

    forward = _replication


class CircularPad1d(torch.nn.CircularPad1d):
    """``torch.nn.CircularPad1d`` whose gradient is :class:`PadFunction`'s."""

    forward = _circular


class CircularPad2d(torch.nn.CircularPad2d):
    """``torch.nn.CircularPad2d`` whose gradient is :class:`PadFunction`'s."""

    forward = _circular


class CircularPad3d(torch.nn.CircularPad3d):
    """``torch.nn.CircularPad3d`` whose gradient is :class:`PadFunction`'s."""

    forward = _circular


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), [1, 2, 0, 3])
    yield sample(draw(4, 5), [1, -2, -1, 2], value=2.5, label="a value, less")
    yield sample(draw(3), [2, 1], label="a vector")
    yield sample(draw(2, 3), [0, 0], label="nothing added")
    for mode in ("reflect", "replicate", "circular"):
        yield sample(draw(2, 3, 5), [2, 1], mode=mode, label=f"{mode} 1d")
        yield sample(draw(2, 3, 4, 5), [1, 2, 3, 0], mode=mode, label=mode)
        yield sample(draw(3, 4, 5), [4, 4, 3, 2], mode=mode, label=f"{mode}, one example")
        yield sample(draw(2, 1, 2, 4, 3), [1, 2, 0, 3, 1, 1], mode=mode, label=f"{mode} 3d")
        yield sample(draw(2, 3, 6, 7), [2, -3, -1, 2], mode=mode, label=f"{mode}, less")
        yield sample(draw(0, 3, 4, 5), [1, 2, 3, 0], mode=mode, label=f"{mode}, no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3), [1, 1, 1, 1, 1, 1], label="more axes than there are")
    yield sample(draw(2, 3), [-2, -2], label="less than nothing")
    yield sample(draw(2, 3, 4), [4, 0], "reflect", label="a mirror too wide")
    yield sample(draw(2, 3, 4), [5, 0], "circular", label="round more than once")
    yield sample(draw(4), [1, 1], "reflect", label="a mirror without channels")
    yield sample(draw(2, 3, 4), [1, 1], "mirror", label="a mode unknown")
    yield sample(draw(2, 3, 4), [1, 1], "reflect", 1.0, label="a value for a mirror")


def _line(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5), (2, 1))


def _plane(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), 2)


def _space(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 3, 5), (1, 2, 0, 1, 2, 1))


def _line_of_a_value(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5), (2, 1), 0.5)


def _plane_of_a_value(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), (1, 2, 0, 1), -1.5)


def _space_of_a_value(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 3, 5), 1, 2.0)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 16, 8, 8), [1, 1, 1, 1])
    yield sample(draw(32, 64, 28, 28), [1, 1, 1, 1])
    yield sample(draw(32, 16, 8, 8), [1, 1, 1, 1], mode="reflect")
    yield sample(draw(32, 64, 28, 28), [1, 1, 1, 1], mode="reflect")


SPEC = Spec(
    name="pad",
    formula="y_p = x_q(p), or the constant",
    gradient="dx_q = sum of dy_p over the copies p of q",
    manual=pad,
    native=F.pad,
    inplace={torch.constant_pad_nd: constant_pad_nd},
    samples=_samples,
    refused=_refused,
    modules={
        ZeroPad1d: _line,
        ZeroPad2d: _plane,
        ZeroPad3d: _space,
        ConstantPad1d: _line_of_a_value,
        ConstantPad2d: _plane_of_a_value,
        ConstantPad3d: _space_of_a_value,
        ReflectionPad1d: _line,
        ReflectionPad2d: _plane,
        ReflectionPad3d: _space,
        ReplicationPad1d: _line,
        ReplicationPad2d: _plane,
        ReplicationPad3d: _space,
        CircularPad1d: _line,
        CircularPad2d: _plane,
        CircularPad3d: _space,
    },
    bench=_bench,
)
