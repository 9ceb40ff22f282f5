r"""LogSoftmax: the logarithm of the shares that softmax gives.

Indices: ``i`` and ``j`` along ``dim``; every other axis counts as one long ``n``, left out below.

Forward, in a form that neither overflows nor takes the logarithm of 0::

    y_i = x_i - log sum_j e^x_j                          (N, D)

Backward. A score counts in its own output with 1 and in the common sum with its share
p_i = e^y_i, dy_j/dx_i = [i = j] - p_i. Summed over the outputs::

    dL/dx_i = dL/dy_i - p_i sum_j dL/dy_j                (N, D)

With the loss -y_c of the right class ``c`` that is p_i - [i = c], the famous difference between
what was predicted and what was true.

Bridle (1990), "Training Stochastic Model Recognition Algorithms as Networks can lead to Maximum
Mutual Information Estimation of Parameters", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import _get_softmax_dim  # type: ignore[attr-defined]

from manual_bp.composed import under_by_hand
from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.spec import Draw, Sample, Spec, sample


class LogSoftmaxFunction(Function):
    """``x``: (N, D) in any order of axes; ``dim``: the axis of D; ``dtype`` to compute in."""

    @staticmethod
    def forward(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        return torch.log_softmax(x, dim, dtype=dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, _ = inputs
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_y, y = widened(grad_y, *ctx.saved_tensors)
        total = grad_y.sum(ctx.dim, keepdim=True)
        if is_recorded():
            grad_x = grad_y - torch.exp(y) * total
        else:  # torch has the quicker kernel for 2^(y / ln 2)
            p = torch.mul(y, 1 / math.log(2)).exp2_()
            grad_x = torch.addcmul(grad_y, p, total, value=-1, out=p)
        return grad_x.to(ctx.x_dtype), None, None


@under_autocast("float32", devices=("cuda",))
def log_softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Log of the softmax, gradient by hand; as ``torch.nn.functional.log_softmax``.

    Args:
        input: any shape
        dim: the axis along which the exponentials of the outputs add up to 1; None guesses it
            from the rank, as torch once did, with torch's warning
        dtype: what to cast ``input`` to first

    Returns:
        The shape of ``input``, in ``dtype`` or the dtype of ``input``.

    Raises:
        IndexError: From torch, where there is no axis ``dim``.
    """
    if dim is None:
        dim = _get_softmax_dim("log_softmax", input.dim(), _stacklevel + 1)
    return LogSoftmaxFunction.apply(input, dim, dtype)


def _of_tensor(input: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """``log_softmax`` with the arguments of ``torch.log_softmax``."""
    return log_softmax(input, dim, dtype=dtype)


class LogSoftmax(torch.nn.LogSoftmax):
    """``torch.nn.LogSoftmax`` whose gradient is :class:`LogSoftmaxFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return log_softmax(input, self.dim, _stacklevel=5)


class AdaptiveLogSoftmaxWithLoss(torch.nn.AdaptiveLogSoftmaxWithLoss):
    """``torch.nn.AdaptiveLogSoftmaxWithLoss`` whose gradients are by hand.

    Frequent classes and a few clusters of rare ones share a LogSoftmax; within its cluster a rare
    class has another, log p(class) = log p(cluster) + log p(class | cluster), and a gradient goes
    into a cluster only for the examples that belong there. The forward pass is torch's own.

    Grave et al. (2017), "Efficient softmax approximation for GPUs", section 4.
    """

    def forward(self, input_: Tensor, target_: Tensor) -> Any:
        """Map (N, D) and classes (N), or (D) and one class, to log-probabilities and their loss."""
        return under_by_hand(super().forward, input_, target_)

    def log_prob(self, input: Tensor) -> Tensor:
        """Map (N, D) to the log-probabilities of all classes: (N, K)."""
        return under_by_hand(super().log_prob, input)


def _samples(draw: Draw) -> Iterator[Sample]:
    inf = float("inf")
    yield sample(draw(4, 3), -1)
    yield sample(draw(2, 4, 3), 1, label="an axis in the middle")
    yield sample(draw(3), 0, label="a vector")
    yield sample(draw.values(800.0, -800.0, 799.0, 0.0), 0, label="large")
    yield sample(draw.values(1.0, -inf, 2.0), 0, label="one masked", smooth=False)
    yield sample(draw(4, 3), -1, dtype=torch.float64, label="dtype")
    yield sample(draw(0, 3), -1, label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 2, label="no such axis")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -1)
    yield sample(draw(2, 4, 3), 1)


def _adaptive(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(6, 4), torch.tensor([0, 5, 2, 9, 3, 1])), 4, 10, [2, 6], div_value=2.0)
    yield sample((draw(4), torch.tensor(3)), 4, 7, [2], head_bias=True, label="one example")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), -1)
    yield sample(draw(1024, 2048), -1)


SPEC = Spec(
    name="log_softmax",
    formula="y_i = x_i - log sum_j e^x_j",
    gradient="dx = dy - e^y sum_j dy_j",
    manual=log_softmax,
    native=torch.nn.functional.log_softmax,
    inplace={
        torch.log_softmax: _of_tensor,
        torch.Tensor.log_softmax: _of_tensor,
        torch.special.log_softmax: _of_tensor,
    },
    samples=_samples,
    refused=_refused,
    modules={LogSoftmax: _modules, AdaptiveLogSoftmaxWithLoss: _adaptive},
    bench=_bench,
)
