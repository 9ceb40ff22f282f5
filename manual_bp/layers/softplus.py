r"""Softplus, LogSigmoid and Softsign: smooth relatives of ReLU, of sigmoid's log and of tanh.

Forward, with a sharpness ``b`` and a threshold ``t``::

    softplus     y = log(1 + e^(b x)) / b    where b x <= t,  else x
    logsigmoid   y = -log(1 + e^-x)
    softsign     y = x / (1 + |x|)

Backward::

    softplus     dL/dx = dL/dy sigmoid(b x)  where b x <= t,  else dL/dy
    logsigmoid   dL/dx = dL/dy sigmoid(-x)
    softsign     dL/dx = dL/dy / (1 + |x|)^2

The slope of softplus is the sigmoid, as ReLU's is the step that a sigmoid smooths. Beyond the
threshold torch takes it for the identity, and this takes the identity's gradient.

Dugas et al. (2001), "Incorporating Second-Order Functional Knowledge for Better Option Pricing",
section 3.1; Turian, Bergstra & Bengio (2009), "Quadratic Features and Deep Architectures for
Chunking", section 3.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import times_slope
from manual_bp.function import FromInput, is_recorded, under_autocast, widened
from manual_bp.ops.add import add
from manual_bp.ops.div import div
from manual_bp.ops.sign import abs
from manual_bp.spec import Draw, Sample, Spec, sample


class SoftplusFunction(FromInput):
    """``x`` of any shape; ``beta`` and ``threshold``: numbers."""

    @staticmethod
    def forward(x: Tensor, beta: float, threshold: float) -> Tensor:
        return torch.nn.functional.softplus(x, beta, threshold)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        beta, threshold = ctx.numbers
        if not is_recorded():
            quick = functools.partial(_softplus_slope_in_place, beta=beta, threshold=threshold)
            return times_slope(grad_y, quick, input), None, None
        grad_y, x = widened(grad_y, input)
        slope = torch.where(x * beta > threshold, x.new_ones(()), torch.sigmoid(x * beta))
        return (grad_y * slope).to(input.dtype), None, None


def _softplus_slope_in_place(x: Tensor, beta: float, threshold: float) -> Tensor:
    z = x * beta
    slope = torch.sigmoid(z)
    return torch.maximum(slope, z.gt_(threshold), out=slope)  # z is now 1 or 0


class LogSigmoidFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        grad_y, x = widened(grad_y, input)
        slope = torch.sigmoid(-x)
        grad_x = slope * grad_y if is_recorded() else slope.mul_(grad_y)
        return grad_x.to(input.dtype)


class SoftsignFunction(FromInput):
    """``x`` of any shape."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.softsign(x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        grad_y, x = widened(grad_y, input)
        return (grad_y / (1 + x.abs()).square()).to(input.dtype)


@under_autocast("float32", devices=("cuda",))
def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """``log(1 + exp(beta x)) / beta``, gradient by hand; as ``torch.nn.functional.softplus``.

    Args:
        input: any shape, floating-point
        beta: sharpness of the bend
        threshold: of ``beta x``, beyond which the identity is taken

    Returns:
        The shape and dtype of ``input``.
    """
    return SoftplusFunction.apply(input, beta, threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """``log(sigmoid(x))`` with its gradient by hand; as ``torch.nn.functional.logsigmoid``.

    Args:
        input: any shape, floating-point

    Returns:
        The shape and dtype of ``input``.
    """
    return LogSigmoidFunction.apply(input)


def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)`` with its gradient by hand; as ``torch.nn.functional.softsign``.

    Args:
        input: any shape, floating-point

    Returns:
        The shape and dtype of ``input``, in (-1, 1).
    """
    if input.is_complex():  # |x| has a gradient of its own there
        return div(input, add(abs(input), 1))
    return SoftsignFunction.apply(input)


class Softplus(torch.nn.Softplus):
    """``torch.nn.Softplus`` whose gradient is :class:`SoftplusFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return softplus(input, self.beta, self.threshold)


class LogSigmoid(torch.nn.LogSigmoid):
    """``torch.nn.LogSigmoid`` whose gradient is :class:`LogSigmoidFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return logsigmoid(input)


class Softsign(torch.nn.Softsign):
    """``torch.nn.Softsign`` whose gradient is :class:`SoftsignFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return softsign(input)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 2.5, label="beta")
    yield sample(draw(4, 3), 2.0, 0.5, label="a low threshold")
    yield sample(draw.values(-800.0, -0.0, 19.0, 21.0, 800.0), label="tails")
    yield sample(draw.values(-1.0, 19.5, 20.5), label="threshold", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _plain_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw.values(-800.0, -0.0, 0.0, 800.0), label="zero and tails", smooth=False)
    yield sample(draw(0, 3), label="no examples")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 2.0, 0.5)


def _plain_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="softplus",
    formula="y = log(1 + e^(b x)) / b",
    gradient="dx = dy sigmoid(b x)",
    manual=softplus,
    native=torch.nn.functional.softplus,
    samples=_samples,
    modules={Softplus: _modules},
    bench=_bench,
)

LOGSIGMOID = Spec(
    name="logsigmoid",
    formula="y = -log(1 + e^-x)",
    gradient="dx = dy sigmoid(-x)",
    manual=logsigmoid,
    native=torch.nn.functional.logsigmoid,
    samples=_plain_samples,
    modules={LogSigmoid: _plain_modules},
    bench=_bench,
)

SOFTSIGN = Spec(
    name="softsign",
    formula="y = x / (1 + |x|)",
    gradient="dx = dy / (1 + |x|)^2",
    manual=softsign,
    native=torch.nn.functional.softsign,
    samples=_plain_samples,
    modules={Softsign: _plain_modules},
    bench=_bench,
)
