r"""Alpha dropout: dropout for SELU nets, which leaves mean and variance as they were.

Forward, with a mask m of independent zeros (probability p) and ones. What is left out does not
become 0 but -d, the value that SELU saturates at (d = 1.7581), and an affine map repairs the
moments::

    y_i = a (m_i x_i - (1 - m_i) d) + b
    a = 1 / sqrt((1 - p) (1 + p d^2)),   b = a p d

With x of mean 0 and variance 1, m x - (1 - m) d has mean -p d and variance (1 - p)(1 + p d^2).

Backward: of all this only the product with m and a meets ``x``::

    dL/dx_i = dL/dy_i a m_i

``feature_alpha_dropout`` draws one m for a whole channel.

Klambauer, Unterthiner, Mayr & Hochreiter (2017), "Self-Normalizing Neural Networks", section 2,
"New Dropout Technique".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.layers.channel_dropout import channel_shape
from manual_bp.layers.dropout import draw_mask, masked
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample

_SATURATION = 1.7580993408473766  # d, the product of SELU's two numbers


class AlphaDropoutFunction(Function):
    """``x`` of any shape; ``p`` in (0, 1]; ``shape`` of the mask, which broadcasts to ``x``."""

    @staticmethod
    def forward(x: Tensor, p: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mask = draw_mask(x, p, shape)
        a = _scale(p)
        left_out = (mask.to(x.dtype) - 1) * (a * _SATURATION) + a * p * _SATURATION
        return masked(x, mask, a) + left_out, mask

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
    # With p = 1 torch multiplies by 0 and leaves it at that.
    return 0.0 if p == 1 else 1 / math.sqrt((1 - p) * (1 + p * _SATURATION**2))


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps mean and variance; as ``torch.nn.functional.alpha_dropout``.

    Args:
        input: any shape, floating-point
        p: probability of an element to be left out
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
    """
    if not 0 <= p <= 1 or not training or p == 0 or input.numel() == 0:
        return torch.nn.functional.alpha_dropout(input, p, False)  # the input, or a refusal
    y, _ = AlphaDropoutFunction.apply(input, float(p), tuple(input.shape))
    return copy_(input, y) if inplace else y


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """``alpha_dropout`` of channels; as ``torch.nn.functional.feature_alpha_dropout``.

    Args:
        input: (N, C, ...)
        p: probability of a channel to be left out
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
        RuntimeError: From torch, for fewer than two axes.
    """
    if not 0 <= p <= 1 or not training or p == 0 or input.numel() == 0:
        return torch.nn.functional.feature_alpha_dropout(input, p, False)
    if input.dim() < 2:
        return torch.nn.functional.feature_alpha_dropout(input, p, True)  # which refuses it
    y, _ = AlphaDropoutFunction.apply(input, float(p), channel_shape(input, True))
    return copy_(input, y) if inplace else y


def _op(input: Tensor, p: float, train: bool) -> Tensor:
    return alpha_dropout(input, p, train)


def _op_(input: Tensor, p: float, train: bool) -> Tensor:
    return alpha_dropout(input, p, train, inplace=True)


def _feature_op(input: Tensor, p: float, train: bool) -> Tensor:
    return feature_alpha_dropout(input, p, train)


def _feature_op_(input: Tensor, p: float, train: bool) -> Tensor:
    return feature_alpha_dropout(input, p, train, inplace=True)


class AlphaDropout(torch.nn.AlphaDropout):
    """``torch.nn.AlphaDropout`` whose gradient is :class:`AlphaDropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map any shape to the same shape; ``inplace`` is without effect, as in torch."""
        return alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(torch.nn.FeatureAlphaDropout):
    """``torch.nn.FeatureAlphaDropout`` whose gradient is :class:`AlphaDropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, ...) to the same shape; ``inplace`` is without effect, as in torch."""
        return feature_alpha_dropout(input, self.p, self.training)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), training=True)
    yield sample(draw(4, 3), 0.3, True, label="p = 0.3")
    yield sample(draw(4, 3), 1.0, True, label="p = 1")


def _feature_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 0.3, True)
    yield sample(draw(4, 3, 2), 1.0, True, label="p = 1")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 1.5, label="not a probability")


def _feature_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), 0.5, True, label="one axis")


def _modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _feature_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 0.3)


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512), training=True)
    yield sample(draw(1024, 2048), training=True)


SPEC = Spec(
    name="alpha_dropout",
    formula="y = a (m x - (1 - m) d) + b",
    gradient="dx = dy a m",
    manual=alpha_dropout,
    native=torch.nn.functional.alpha_dropout,
    inplace={torch.alpha_dropout: _op, torch.alpha_dropout_: _op_},
    samples=_samples,
    refused=_refused,
    modules={AlphaDropout: _modules},
    bench=_bench,
    random=True,
)

FEATURE = Spec(
    name="feature_alpha_dropout",
    formula="y = a (m x - (1 - m) d) + b,  one m for a channel",
    gradient="dx = dy a m",
    manual=feature_alpha_dropout,
    native=torch.nn.functional.feature_alpha_dropout,
    inplace={
        torch.feature_alpha_dropout: _feature_op,
        torch.feature_alpha_dropout_: _feature_op_,
    },
    samples=_feature_samples,
    refused=_feature_refused,
    modules={FeatureAlphaDropout: _feature_modules},
    random=True,
)
