r"""GLU: one half of the features is a gate for the other.

Forward, ``x`` cut into halves ``a`` and ``b`` along ``dim``, s = sigmoid(b)::

    y = a s

Backward::

    dL/da = dL/dy s
    dL/db = dL/dy a s (1 - s)

Where the gate is open the gradient goes straight through to ``a``: an LSTM's linear path without
the recurrence.

Dauphin, Fan, Auli & Grangier (2017), "Language Modeling with Gated Convolutional Networks",
section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import FromInput, is_recorded, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class GLUFunction(FromInput):
    """``x``: 2H long along ``dim``."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return torch.nn.functional.glu(x, dim)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        (dim,) = ctx.numbers
        grad_y, x = widened(grad_y, input)
        a, b = x.chunk(2, dim)
        if is_recorded():
            s = torch.sigmoid(b)
            grad_x = torch.cat((grad_y * s, grad_y * a * s * (1 - s)), dim)
        else:  # both halves are made in place
            grad_x = torch.empty_like(x)
            grad_a, grad_b = grad_x.chunk(2, dim)
            s = torch.sigmoid(b)
            torch.mul(grad_y, s, out=grad_a)
            torch.mul(grad_a, s.neg_().add_(1), out=grad_b).mul_(a)
        return grad_x.to(input.dtype), None


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Gated linear unit, gradient by hand; as ``torch.nn.functional.glu``.

    Args:
        input: any shape, of even size along ``dim``
        dim: the axis that is cut into halves

    Returns:
        The shape of ``input``, half as long along ``dim``.

    Raises:
        RuntimeError: From torch, where the axis cannot be halved.
    """
    return GLUFunction.apply(input, dim)


class GLU(torch.nn.GLU):
    """``torch.nn.GLU`` whose gradient is :class:`GLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., 2H, ...) to (..., H, ...)."""
        return glu(input, self.dim)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6))
    yield sample(draw(2, 4, 3), 1, label="an axis in the middle")
    yield sample(draw(4), label="a vector")
    yield sample(draw(0, 6), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), label="an odd size")
    yield sample(draw(), label="no axis")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6))
    yield sample(draw(2, 4, 3), 1)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 1024))
    yield sample(draw(1024, 4096))


SPEC = Spec(
    name="glu",
    formula="y = a s,  s = sigmoid(b),  x = (a, b)",
    gradient="da = dy s,  db = dy a s (1 - s)",
    manual=glu,
    native=torch.nn.functional.glu,
    samples=_samples,
    refused=_refused,
    modules={GLU: _modules},
    bench=_bench,
)
