r"""PReLU: a LeakyReLU that learns its slope, one number or one for each channel.

Indices: ``n`` example, ``c`` channel (the second axis), ``p`` place in the channel.

Forward::

    y_ncp = x_ncp  where x_ncp > 0,  else  w_c x_ncp

Backward::

    dL/dx_ncp = dL/dy_ncp  where x_ncp > 0,  else  w_c dL/dy_ncp
    dL/dw_c   = sum_np dL/dy_ncp x_ncp  over x_ncp <= 0              (C)

Positive elements say nothing about the slope. At the kink x = 0 this takes ``w``, as PyTorch.

He, Zhang, Ren & Sun (2015), "Delving Deep into Rectifiers", section 2.1, equation 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast, widened
from manual_bp.ops.where import where_nonzero
from manual_bp.spec import Draw, Sample, Spec, sample


class PReLUFunction(Function):
    """``x``: (N, C, ...) or any shape; ``weight``: (C), or one number as (1) or ()."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return torch.prelu(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad_y, x, w = widened(grad_y, input, weight)
        # (C, 1, ...) lies along the second axis; without one there is a single slope.
        w = w.reshape(-1, *[1] * (x.dim() - 2)) if x.dim() >= 2 and w.dim() else w.reshape(())
        positive = x > 0
        grad_negative = where_nonzero(positive.logical_not(), grad_y)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = (where_nonzero(positive, grad_y) + grad_negative * w).to(input.dtype)
        if ctx.needs_input_grad[1]:
            grad_weight = (grad_negative * x).sum_to_size(w.shape)
            grad_weight = grad_weight.view(weight.shape).to(weight.dtype)
        return grad_x, grad_weight


@under_autocast("lower")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """PReLU with its gradients by hand; as ``torch.nn.functional.prelu``.

    Args:
        input: (N, C, ...), or any shape where ``weight`` is one number
        weight: (C), (1) or ()

    Returns:
        The shape and dtype of ``input``.

    Raises:
        RuntimeError: From torch, where ``weight`` does not fit the channels.
    """
    return PReLUFunction.apply(input, weight)


class PReLU(torch.nn.PReLU):
    """``torch.nn.PReLU`` whose gradients are :class:`PReLUFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return prelu(input, self.weight)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(3))
    yield sample(draw(2, 3, 5), draw(3), label="three axes")
    yield sample(draw(4, 3), draw(1), label="one slope")
    yield sample(draw(4), draw(), label="a vector, one slope")
    yield sample(draw(), draw(1), label="no axis")
    yield sample(draw(0, 3), draw(3), label="no examples")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4), label="channels differ")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(2, 3, 5), 3)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), draw(512))
    yield sample(draw(1024, 2048), draw(2048))


SPEC = Spec(
    name="prelu",
    formula="y = x where x > 0, else w x",
    gradient="dx = dy where x > 0, else w dy;  dw = sum of dy x where x <= 0",
    manual=prelu,
    native=torch.nn.functional.prelu,
    overrides=(torch.prelu, torch.Tensor.prelu),
    samples=_samples,
    refused=_refused,
    modules={PReLU: _modules},
    bench=_bench,
)
