r"""Dropout of channels, 1-D to 3-D: in training a whole feature map is left out with probability p.

Forward, with a mask m_nc of independent zeros (probability p) and ones, one for each example n and
channel c, at every place q of it::

    y_ncq = m_nc x_ncq / (1 - p)

Backward, as in :mod:`manual_bp.layers.dropout`::

    dL/dx_ncq = dL/dy_ncq m_nc / (1 - p)

Neighbours in a feature map are so alike that leaving out single ones hides nothing.

Tompson et al. (2015), "Efficient Object Localization Using Convolutional Networks", section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from manual_bp.layers.dropout import DropoutFunction
from manual_bp.ops.copy import copy_
from manual_bp.spec import Draw, Sample, Spec, sample


def channel_shape(input: Tensor, has_batch: bool) -> tuple[int, ...]:
    """The shape of a mask with one element for each channel: (N, C, 1, ...) or (C, 1, ...)."""
    own = 2 if has_batch else 1
    return tuple(input.shape[:own]) + (1,) * (input.dim() - own)


def _channels(
    native: Callable[..., Tensor],
    has_batch: bool,
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool = False,
) -> Tensor:
    # With nothing to drop torch looks at its arguments, warns or refuses, and that is all.
    native(input.detach(), p, training and has_batch and input.dim() < 2)
    if not training or p == 0 or input.numel() == 0:
        return input
    y, _ = DropoutFunction.apply(input, float(p), channel_shape(input, has_batch))
    return copy_(input, y) if inplace else y


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Dropout of whole channels; as ``torch.nn.functional.dropout1d``.

    Args:
        input: (N, C, L) or (C, L)
        p: probability of a channel to become 0
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
        RuntimeError: From torch, for another number of axes.
    """
    native = torch.nn.functional.dropout1d
    return _channels(native, input.dim() == 3, input, p, training, inplace)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Dropout of whole channels; as ``torch.nn.functional.dropout2d``.

    Args:
        input: (N, C, H, W), or (N, C, L), which torch takes with a warning
        p: probability of a channel to become 0
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
    """
    return _channels(torch.nn.functional.dropout2d, True, input, p, training, inplace)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Dropout of whole channels; as ``torch.nn.functional.dropout3d``.

    Args:
        input: (N, C, D, H, W) or (C, D, H, W)
        p: probability of a channel to become 0
        training: where False, ``input`` is returned
        inplace: write the result into ``input``

    Returns:
        The shape and dtype of ``input``.

    Raises:
        ValueError: From torch, where ``p`` is not in [0, 1].
    """
    native = torch.nn.functional.dropout3d
    return _channels(native, input.dim() == 5, input, p, training, inplace)


def _feature_op(input: Tensor, p: float, train: bool) -> Tensor:
    """With the arguments of ``torch.feature_dropout``."""
    return _channels(torch.feature_dropout, True, input, p, train)


def _feature_op_(input: Tensor, p: float, train: bool) -> Tensor:
    """With the arguments of ``torch.feature_dropout_``."""
    return _channels(torch.feature_dropout, True, input, p, train, inplace=True)


class Dropout1d(torch.nn.Dropout1d):
    """``torch.nn.Dropout1d`` whose gradient is :class:`DropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, L) or (C, L) to the same shape."""
        return dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(torch.nn.Dropout2d):
    """``torch.nn.Dropout2d`` whose gradient is :class:`DropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(torch.nn.Dropout3d):
    """``torch.nn.Dropout3d`` whose gradient is :class:`DropoutFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, D, H, W) or (C, D, H, W) to the same shape."""
        return dropout3d(input, self.p, self.training, self.inplace)


def _samples_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2))
    yield sample(draw(4, 3), 0.3, label="no batch")
    yield sample(draw(4, 3, 2), 1.0, label="p = 1")


def _samples_2d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2, 1), 0.3)


def _samples_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 2, 1), 0.3)
    yield sample(draw(4, 3, 2, 1), label="no batch")


def _refused_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -0.5, label="not a probability")
    yield sample(draw(4, 3, 2, 1), label="too many axes")


def _modules_1d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 0.3)


def _modules_2d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2, 1), 0.3)


def _modules_3d(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3, 2, 1), 0.3)


DROPOUT1D = Spec(
    name="dropout1d",
    formula="y = m x / (1 - p),  one m for a channel",
    gradient="dx = dy m / (1 - p)",
    manual=dropout1d,
    native=torch.nn.functional.dropout1d,
    inplace={torch.feature_dropout: _feature_op, torch.feature_dropout_: _feature_op_},
    samples=_samples_1d,
    refused=_refused_1d,
    modules={Dropout1d: _modules_1d},
    random=True,
)
DROPOUT2D = Spec(
    name="dropout2d",
    formula="y = m x / (1 - p),  one m for a channel",
    gradient="dx = dy m / (1 - p)",
    manual=dropout2d,
    native=torch.nn.functional.dropout2d,
    samples=_samples_2d,
    modules={Dropout2d: _modules_2d},
    random=True,
)
DROPOUT3D = Spec(
    name="dropout3d",
    formula="y = m x / (1 - p),  one m for a channel",
    gradient="dx = dy m / (1 - p)",
    manual=dropout3d,
    native=torch.nn.functional.dropout3d,
    samples=_samples_3d,
    modules={Dropout3d: _modules_3d},
    random=True,
)
