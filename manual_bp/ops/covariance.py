r"""Covariance and correlation of the rows of a matrix: cov, corrcoef.

Indices: ``i``, ``j`` variables, ``n`` observations, each with a weight w_n (1 without any). With
the sum of the weights W and the weighted mean m_i = sum_n w_n x_in / W, forward::

    d_in = x_in - m_i         C_ij = sum_n w_n d_in d_jn / N         R_ij = C_ij / sqrt(C_ii C_jj)

where N is W less a correction. Mean, difference, product and matrix product are by hand, and so is
the gradient. Written out, with G = dL/dC + (dL/dC)^T::

    dL/dx_in = w_n / N  (sum_j G_ij d_jn)

The mean takes no part in it: the d_n, weighted, sum up to 0, and so does the blame through m_i.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from manual_bp.function import nothing_to_do
from manual_bp.ops.add import sub
from manual_bp.ops.clamp import clamp
from manual_bp.ops.diagonal import diagonal
from manual_bp.ops.div import div
from manual_bp.ops.matmul import matmul
from manual_bp.ops.mul import mul
from manual_bp.ops.permute import t
from manual_bp.ops.power import sqrt
from manual_bp.ops.sum import sum
from manual_bp.ops.view import squeeze, unsqueeze, view
from manual_bp.spec import Draw, Sample, Spec, sample


def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariances of the rows; as ``torch.cov``.

    Args:
        input: (I, N): N observations of I variables; or (N), of one
        correction: what the divisor is less than the number of observations
        fweights: (N), integers: how often each was made
        aweights: (N): how much each counts

    Returns:
        (I, I), or no axis for one variable.

    Raises:
        RuntimeError: From torch, where shapes or weights do not fit.
    """
    unweighted = fweights is None and aweights is None
    if nothing_to_do(input, aweights) or input.is_complex() or input.dim() > 2:
        return torch.cov(input, correction=correction, fweights=fweights, aweights=aweights)
    x = input if input.dim() == 2 else view(input, 1, -1)
    if not unweighted or x.shape[1] <= correction:
        with torch.no_grad():  # what torch may say against the arguments
            torch.cov(input, correction=correction, fweights=fweights, aweights=aweights)
    weights = fweights if aweights is None else aweights
    if fweights is not None and aweights is not None:
        weights = mul(aweights, fweights)
    if weights is None:
        mean = div(sum(x, 1, True), x.shape[1])
        d = weighted = sub(x, mean)
        count: Tensor | float = x.shape[1] - correction
    else:
        total = sum(weights)
        d = sub(x, div(sum(mul(x, weights), 1, True), total))
        weighted = mul(d, weights)
        count = _less(weights, total, aweights, correction)
    count = clamp(count, 0.0) if isinstance(count, Tensor) else max(count, 0)
    return squeeze(div(matmul(d, t(weighted)), count))


def _less(weights: Tensor, total: Tensor, aweights: Tensor | None, correction: int) -> Tensor:
    """The sum of the weights, less the correction; weights of importance count by their share."""
    if aweights is None or correction == 0:
        return sub(total, correction)
    share = div(sum(mul(weights, aweights)), total)
    return sub(total, mul(share, correction))


def corrcoef(input: Tensor) -> Tensor:
    """The correlation coefficients of the rows, between -1 and 1; as ``torch.corrcoef``.

    Args:
        input: (I, N), or (N)

    Returns:
        (I, I), or no axis for one variable.

    Raises:
        RuntimeError: From torch, for more axes.
    """
    if nothing_to_do(input) or input.dim() > 2 or input.is_complex():
        return torch.corrcoef(input)
    c = cov(input)
    if c.dim() == 0:
        return div(c, c)
    deviation = sqrt(diagonal(c))
    c = div(div(c, unsqueeze(deviation, 1)), unsqueeze(deviation, 0))
    return clamp(c, -1.0, 1.0)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 5))
    yield sample(draw(5), correction=0, label="one variable")
    how_often, weights = draw.integers(3, 5) + 1, draw.uniform(5, low=0.1)
    yield sample(draw(3, 5), fweights=how_often, aweights=weights, label="weights")


def _corrcoef_samples(draw: Draw) -> Iterator[Sample]:
    # In float32 the diagonal is 1, more or less; where it is more, it is cut off.
    yield sample(draw(3, 5), smooth=False)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 5), label="three axes")


COV = Spec(
    name="cov",
    formula="C_ij = sum_n w_n (x_in - m_i) (x_jn - m_j) / N",
    gradient="dx_in = w_n / N sum_j (dC_ij + dC_ji) (x_jn - m_j)",
    manual=cov,
    native=torch.cov,
    overrides=(torch.Tensor.cov,),
    samples=_samples,
    refused=_refused,
)
CORRCOEF = Spec(
    name="corrcoef",
    formula="R_ij = C_ij / sqrt(C_ii C_jj)",
    gradient="that of cov, through the quotient",
    manual=corrcoef,
    native=torch.corrcoef,
    overrides=(torch.Tensor.corrcoef,),
    samples=_corrcoef_samples,
    refused=_refused,
)
