r"""The Vandermonde matrix: the powers of numbers, a row for each.

Forward, for ``x`` (n), and j = 0..N-1::

    y_nj = x_n^j                         (n, N);  torch.vander has the highest power first

Backward, each power by the one before it, which stands in its row already::

    dL/dx_n = sum_j dL/dy_nj j x_n^(j-1) = sum_(j >= 1) dL/dy_nj j y_n(j-1)        (n)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, widened
from manual_bp.ops.flip import flip
from manual_bp.spec import Draw, Sample, Spec, sample


class VanderFunction(Function):
    """``x``: (..., n); ``method`` makes the matrix, the lowest power first."""

    @staticmethod
    def forward(x: Tensor, method: Any, named: dict[str, Any]) -> Tensor:
        return method(x, **named)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, _ = inputs
        ctx.save_for_backward(output)
        ctx.dtype = x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad_y, y = widened(grad_y, y)
        j = torch.arange(1, max(y.shape[-1], 1), device=y.device)
        grad_x = (grad_y[..., 1:] * (j * y[..., :-1].conj())).sum(-1)
        return grad_x.to(ctx.dtype), None, None


def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0..N-1 of each number; as ``torch.linalg.vander``.

    Args:
        x: (..., n), floating-point or complex
        N: how many powers; as many as numbers by default

    Returns:
        (..., n, N)

    Raises:
        RuntimeError: From torch, for an N below 2.
    """
    return VanderFunction.apply(x, torch.linalg.vander, {"N": N})


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers N-1..0 of each number; as ``torch.vander``.

    Args:
        x: (n), floating-point or complex
        N: how many powers; as many as numbers by default
        increasing: the lowest first
    """
    y = VanderFunction.apply(x, torch.vander, {"N": N, "increasing": True})
    return y if increasing else flip(y, -1)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4), N=3)  # not as many as numbers: a probe takes 300, float32 38 decades
    yield sample(draw(3), label="a vector")
    yield sample(draw.values(0.0, 1.0, -2.0), N=2, label="zero")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3), N=1, label="one power")


SPEC = Spec(
    name="vander",
    formula="y_nj = x_n^j",
    gradient="dx_n = sum_j dy_nj j x_n^(j-1)",
    manual=linalg_vander,
    native=torch.linalg.vander,
    inplace={torch.vander: vander},  # whose own backward, of torch 2.13, raises
    samples=_samples,
    refused=_refused,
)
