r"""Dropout: in training every element is left out with probability p, at random.

Forward, with a mask m of independent zeros (probability p) and ones::

    y_i = m_i x_i / (1 - p)

Backward: a product with a constant. What was left out gets no blame::

    dL/dx_i = dL/dy_i m_i / (1 - p)

Dividing by 1 - p keeps the expected ``y`` at ``x``, so that evaluation takes ``x`` as it is.
Whole channels are left out by :mod:`manual_bp.layers.channel_dropout`.

The mask is kept as bool, a quarter of the memory of the factors themselves. It is drawn as torch
draws it, so that the same seed leaves out the same elements.

Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: A Simple Way to Prevent
Neural Networks from Overfitting", section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, is_recorded
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


def masked(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """``scale * x`` where ``mask``, else 0; of the shape of ``x``, to which ``mask`` broadcasts."""
    if is_recorded():
        return x * mask * scale
    factors = mask.view(torch.uint8).to(x.dtype)  # bool itself is slow to convert
    if factors.shape == x.shape:
        return factors.mul_(x).mul_(scale)
    return x * factors.mul_(scale)


def draw_mask(x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """Bool, False with probability ``p``; for p = 1 nothing is drawn, as in torch."""
    if shape == x.shape:
        mask = torch.empty_like(x, dtype=torch.bool)  # with x's order in memory, as in torch
    else:
        mask = x.new_empty(shape, dtype=torch.bool)
    return mask.zero_() if p == 1 else mask.bernoulli_(1 - p)


class DropoutFunction(Function):
    """``x`` of any shape, ``p`` < 1 or 1; ``shape`` of the mask, which broadcasts to ``x``."""

    @staticmethod
    def forward(x: Tensor, p: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if x.is_cuda and shape == x.shape and p < 1:
            return torch.native_dropout(x, p, True)  # one kernel, with random numbers of its own
        mask = draw_mask(x, p, shape)
        return masked(x, mask, _scale(p)), mask

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, ctx.p, _ = inputs
        _, mask = output
        ctx.mark_non_differentiable(mask)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(mask)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return None, None, None
        (mask,) = ctx.saved_tensors
        return masked(grad_y, mask, _scale(ctx.p)), None, None


def _scale(p: float) -> float:
    return 0.0 if p == 1 else 1 / (1 - p)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout with its gradient by hand; as ``torch.nn.functional.dropout``.

    Args:
        input: any shape, floating-point
        p: probability of an element to become 0
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
    """
    if not 0 <= p <= 1 or not training or p == 0 or input.numel() == 0:
        return torch.nn.functional.dropout(input, p, False)  # the input, or a refusal
    y, _ = DropoutFunction.apply(input, float(p), tuple(input.shape))
    return copy_(input, y) if inplace else y


def _op(input: Tensor, p: float, train: bool) -> Tensor:
    """With the arguments of ``torch.dropout``."""
    return dropout(input, p, train)


def _op_(input: Tensor, p: float, train: bool) -> Tensor:
    """With the arguments of ``torch.dropout_``."""
    return dropout(input, p, train, inplace=True)


class Dropout(torch.nn.Dropout):
    """``torch.nn.Dropout`` whose gradient is :class:`DropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return dropout(input, self.p, self.training, self.inplace)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3), 0.3, label="p = 0.3")
    yield sample(draw(4, 3), 1.0, label="p = 1")
    image = draw.fixed(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    yield sample(image, label="channels last")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1.5, label="not a probability")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


SPEC = Spec(
    name="dropout",
    formula="y = m x / (1 - p)",
    gradient="dx = dy m / (1 - p)",
    manual=dropout,
    native=torch.nn.functional.dropout,
    inplace={torch.dropout: _op, torch.dropout_: _op_},
    samples=_samples,
    refused=_refused,
    modules={Dropout: _modules},
    bench=_bench,
    random=True,
)
