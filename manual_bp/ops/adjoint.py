r"""The conjugate transpose: ``Tensor.H``, ``Tensor.mH``, ``torch.adjoint``.

Forward and backward, with ``x'`` the complex conjugate, for real numbers ``x`` itself::

    y_ij = x'_ji         dL/dx_ij = (dL/dy_ji)'

Made of a transposition and a conjugation, both of which are their own backward.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.ops.conj import conj
from manual_bp.ops.permute import mT
from manual_bp.spec import Draw, Sample, Spec, sample


def mH(input: Tensor) -> Tensor:
    """The last two axes exchanged, and conjugated; as ``Tensor.mH``.

    Args:
        input: at least two axes

    Raises:
        RuntimeError: From torch, where there are fewer.
    """
    if input.dim() < 2:
        return input.mH  # which says what is wrong
    return conj(mT(input)) if input.is_complex() else mT(input)


def H(input: Tensor) -> Tensor:
    """A matrix transposed and conjugated; as ``Tensor.H``.

    Raises:
        RuntimeError: From torch, for what is no matrix.
    """
    return mH(input) if input.dim() == 2 else input.H


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), label="several")


SPEC = Spec(
    name="mH",
    formula="y_ij = x'_ji",
    gradient="dx_ij = dy'_ji",
    manual=mH,
    native=torch.Tensor.mH.__get__,  # type: ignore[attr-defined]
    inplace={
        torch.Tensor.H.__get__: H,  # type: ignore[attr-defined]
        torch.adjoint: mH,
        torch.Tensor.adjoint: mH,
    },
    samples=_samples,
)
