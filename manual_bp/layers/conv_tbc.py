r"""Convolution over time of (time, batch, channel): conv1d with its axes in another order.

Indices: ``t`` and ``s`` step, ``n`` example, ``i`` input channel, ``o`` output channel, ``k`` place
in the kernel, ``p`` the padding.

Forward::

    y_tno = b_o + sum_ki x_(t+k-p)ni W_kio               (T', N, O)

Backward. A step is used once for every place of the kernel that can lie on it::

    dL/dx_sni = sum_ko dL/dy_(s-k+p)no W_kio             (T, N, I)
    dL/dW_kio = sum_tn x_(t+k-p)ni dL/dy_tno             (K, I, O)
    dL/db_o   = sum_tn dL/dy_tno                         (O)

These are conv1d's gradients (:mod:`manual_bp.layers.convolution`) between permutations
(:mod:`manual_bp.ops.permute`), and the function is composed of the two.

Waibel et al. (1989), "Phoneme Recognition Using Time-Delay Neural Networks", section II.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.layers.convolution import conv1d
from manual_bp.layers.pad import pad as constant_pad
from manual_bp.ops.permute import permute
from manual_bp.spec import Draw, Sample, Spec, sample


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Convolution over time with its gradients by hand; as ``torch.nn.functional.conv_tbc``.

    Args:
        input: (T, N, I)
        weight: (K, I, O)
        bias: (O)
        pad: zeros in front of the first step and behind the last

    Returns:
        (T + 2 pad - K + 1, N, O)

    Raises:
        RuntimeError: From torch, where the shapes do not fit.
    """
    channels = tuple(weight.shape[1:]) == (*input.shape[2:], *bias.shape)
    if input.dim() != 3 or weight.dim() != 3 or bias.dim() != 1 or not channels:
        return torch.conv_tbc(input, weight, bias, pad)  # which says what does not fit
    x = permute(input, 1, 2, 0)
    if not len(input):  # a convolution refuses what has no length, also where padding gives it one
        x, pad = constant_pad(x, [pad, pad]), 0
    y = conv1d(x, permute(weight, 2, 1, 0), bias, padding=pad)
    return permute(y, 2, 0, 1)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 2, 3), draw(3, 3, 4), draw(4))
    yield sample(draw(5, 2, 3), draw(2, 3, 4), draw(4), 3, label="padded")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), draw(3, 3, 4), draw(4), label="two axes")
    yield sample(draw(5, 2, 3), draw(3, 2, 4), draw(4), label="other channels")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(32, 8, 64), draw(3, 64, 64), draw(64), 1)
    yield sample(draw(256, 16, 128), draw(5, 128, 128), draw(128), 2)


SPEC = Spec(
    name="conv_tbc",
    formula="y_t = sum_k x_(t+k-p) W_k + b,  x_t: (N, I)",
    gradient="dx_s = sum_k dy_(s-k+p) W_k^T,  dW_k = sum_t x_(t+k-p)^T dy_t,  db = sum_tn dy",
    manual=conv_tbc,
    native=torch.conv_tbc,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
