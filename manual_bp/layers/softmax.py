r"""Softmax: scores become shares that add up to 1.

Indices: ``i`` and ``j`` along ``dim``; every other axis counts as one long ``n``, left out below.

Forward::

    y_i = e^x_i / sum_j e^x_j                            (N, D), softmin with -x for x

Backward. Every output depends on every score: y_j rises with its own x_j and falls with all of
them, dy_j/dx_i = y_j ([i = j] - y_i). Summed over the outputs::

    dL/dx_i = sum_j dL/dy_j y_j ([i = j] - y_i)
            = y_i (dL/dy_i - sum_j dL/dy_j y_j)          (N, D)

The D x D matrix of slopes is never made: all that is left of it is one dot product a row, the
gradient as it is on average. What is better than average is raised. Adding a number to all scores
changes nothing, and so the gradient adds up to 0 along ``dim``.

Bridle (1990), "Probabilistic Interpretation of Feedforward Classification Network Outputs, with
Relationships to Statistical Pattern Recognition", section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import _get_softmax_dim  # type: ignore[attr-defined]

from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.ops.sign import neg
from manual_bp.spec import Draw, Sample, Spec, sample


class SoftmaxFunction(Function):
    """``x``: (N, D) in any order of axes; ``dim``: the axis of D; ``dtype`` to compute in."""

    @staticmethod
    def forward(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        return torch.softmax(x, dim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, _ = inputs
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_y, y = widened(grad_y, *ctx.saved_tensors)
        t = grad_y * y
        average = t.sum(ctx.dim, keepdim=True)
        if is_recorded():
            grad_x = t - y * average
        else:
            grad_x = t.addcmul_(y, average, value=-1)
        return grad_x.to(ctx.x_dtype), None, None


@under_autocast("float32", devices=("cuda",))
def softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Softmax with its gradient by hand; as ``torch.nn.functional.softmax``.

    Args:
        input: any shape
        dim: the axis along which the outputs add up to 1; None guesses it from the rank, as
            torch once did, with torch's warning
        dtype: what to cast ``input`` to first

    Returns:
        The shape of ``input``, in ``dtype`` or the dtype of ``input``.

    Raises:
        IndexError: From torch, where there is no axis ``dim``.
    """
    if dim is None:
        dim = _get_softmax_dim("softmax", input.dim(), _stacklevel + 1)
    return SoftmaxFunction.apply(input, dim, dtype)


def _of_tensor(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """``softmax`` with the arguments of ``torch.softmax`` and ``Tensor.softmax``."""
    return softmax(input, dim, dtype=dtype)


def softmin(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Softmax of ``-x`` with its gradient by hand; as ``torch.nn.functional.softmin``.

    Args:
        input: any shape
        dim: as in :func:`softmax`
        dtype: what to cast ``-x`` to first

    Returns:
        The shape of ``input``, in ``dtype`` or the dtype of ``input``.

    Raises:
        IndexError: From torch, where there is no axis ``dim``.
    """
    if dim is None:
        dim = _get_softmax_dim("softmin", input.dim(), _stacklevel)
    return softmax(neg(input), dim, dtype=dtype)


class Softmax(torch.nn.Softmax):
    """``torch.nn.Softmax`` whose gradient is :class:`SoftmaxFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return softmax(input, self.dim, _stacklevel=5)


class Softmin(torch.nn.Softmin):
    """``torch.nn.Softmin`` whose gradient is :class:`SoftmaxFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return softmin(input, self.dim, _stacklevel=5)


class Softmax2d(torch.nn.Softmax2d):
    """``torch.nn.Softmax2d``, over channels, whose gradient is :class:`SoftmaxFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) or (C, H, W) to the same shape."""
        if input.dim() not in (3, 4):
            return super().forward(input)  # which refuses it
        return softmax(input, -3)


def _samples(draw: Draw) -> Iterator[Sample]:
    inf = float("inf")
    yield sample(draw(4, 3), -1)
    yield sample(draw(2, 4, 3), 1, label="an axis in the middle")
    yield sample(draw(3), 0, label="a vector")
    yield sample(draw.values(800.0, -800.0, 799.0, 0.0), 0, label="large")
    yield sample(draw.values(1.0, -inf, 2.0), 0, label="one masked", smooth=False)
    yield sample(draw(4, 3), -1, dtype=torch.float64, label="dtype")
    yield sample(draw(0, 3), -1, label="no examples")


def _min_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -1)
    yield sample(draw(2, 4, 3), 1, dtype=torch.float64, label="dtype")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -1)
    yield sample(draw(2, 4, 3), 1)


def _images(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5))
    yield sample(draw(3, 4, 5), label="no batch")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), -1)
    yield sample(draw(1024, 2048), -1)


SPEC = Spec(
    name="softmax",
    formula="y_i = e^x_i / sum_j e^x_j",
    gradient="dx = y (dy - sum_j dy_j y_j)",
    manual=softmax,
    native=torch.nn.functional.softmax,
    inplace={
        torch.softmax: _of_tensor,
        torch.Tensor.softmax: _of_tensor,
        torch.special.softmax: _of_tensor,
    },
    samples=_samples,
    refused=_refused,
    modules={Softmax: _modules, Softmax2d: _images},
    bench=_bench,
)

SOFTMIN = Spec(
    name="softmin",
    formula="y_i = e^-x_i / sum_j e^-x_j",
    gradient="dx = -y (dy - sum_j dy_j y_j)",
    manual=softmin,
    native=torch.nn.functional.softmin,
    samples=_min_samples,
    refused=_refused,
    modules={Softmin: _modules},
    bench=_bench,
)
