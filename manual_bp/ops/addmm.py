r"""A matrix product added to what is there: addmm, baddbmm and their like.

Forward::

    z = beta c + alpha x y           c broadcast to (..., I, J), x (..., I, K), y (..., K, J)

Backward: the sum's and the product's, one after the other::

    dL/dc = beta dL/dz               summed over the axes along which c was repeated
    dL/dx = alpha dL/dz y^T          (..., I, K)
    dL/dy = alpha x^T dL/dz          (..., K, J)

``addbmm`` adds up the products of a batch, so that each of them meets the same dL/dz.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import in_place
from manual_bp.function import Function, under_autocast
from manual_bp.ops.expand import kind, reduced
from manual_bp.spec import Draw, Sample, Spec, sample


class AddProductFunction(Function):
    """``c``, ``x``, ``y`` as above; ``method``: its name in torch."""

    @staticmethod
    def forward(c: Tensor, x: Tensor, y: Tensor, beta: float, alpha: float, method: str) -> Tensor:
        return getattr(torch, method)(c, x, y, beta=beta, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        c, x, y, beta, alpha, _ = inputs
        ctx.c = kind(c)
        ctx.beta, ctx.alpha = beta.conjugate(), alpha.conjugate()
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad_c = grad_x = grad_y = None
        if ctx.needs_input_grad[0]:
            grad_c = reduced(grad_z, *ctx.c)
            grad_c = grad_c if ctx.beta == 1 else grad_c * ctx.beta
        if ctx.needs_input_grad[1]:
            # A vector y is a column: its product with grad_z is an outer one.
            grad_x = torch.outer(grad_z, y.conj()) if y.dim() == 1 else grad_z @ y.mH
            grad_x = grad_x if ctx.alpha == 1 else grad_x * ctx.alpha
        if ctx.needs_input_grad[2]:
            grad_y = x.mH @ grad_z
            grad_y = grad_y if ctx.alpha == 1 else grad_y * ctx.alpha
        return grad_c, grad_x, grad_y, None, None, None


@under_autocast("lower")
def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """``beta * input + alpha * mat1 @ mat2`` with its gradients by hand; as ``torch.addmm``.

    Args:
        input: a shape that broadcasts to (I, J)
        mat1: (I, K)
        mat2: (K, J)
        beta: factor of ``input``
        alpha: factor of the product

    Raises:
        RuntimeError: From torch, with the shapes, where they do not fit.
    """
    return AddProductFunction.apply(input, mat1, mat2, beta, alpha, "addmm")


@under_autocast("lower", devices=("cuda",))
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * mat @ vec``; as ``torch.addmv``."""
    return AddProductFunction.apply(input, mat, vec, beta, alpha, "addmv")


@under_autocast("lower")
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """``addmm`` for each of a batch; as ``torch.baddbmm``.

    Args:
        input: a shape that broadcasts to (B, I, J)
        batch1: (B, I, K)
        batch2: (B, K, J)
        beta: factor of ``input``
        alpha: factor of the products
    """
    return AddProductFunction.apply(input, batch1, batch2, beta, alpha, "baddbmm")


@under_autocast("lower")
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """``beta * input`` plus the sum of a batch's products; as ``torch.addbmm``."""
    return AddProductFunction.apply(input, batch1, batch2, beta, alpha, "addbmm")


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 5), draw(4, 3), draw(3, 5))
    yield sample(draw(5), draw(4, 3), draw(3, 5), beta=0.5, alpha=-2, label="a row, factors")


def _mv_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4), draw(4, 3), draw(3))
    yield sample(draw(1), draw(4, 3), draw(3), beta=0.5, alpha=-2, label="repeated, factors")


def _bmm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 5), draw(2, 4, 3), draw(2, 3, 5))
    yield sample(draw(4, 5), draw(2, 4, 3), draw(2, 3, 5), beta=0.5, alpha=-2, label="factors")


def _addbmm_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 5), draw(2, 4, 3), draw(2, 3, 5), beta=0.5, alpha=-2)


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 5), draw(4, 3), draw(4, 5), label="sizes differ")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(512), draw(64, 512), draw(512, 512))
    yield sample(draw(1024), draw(1024, 1024), draw(1024, 1024))


_FORMULA = "z = beta c + alpha x y"
_GRADIENT = "dc = beta dz,  dx = alpha dz y^T,  dy = alpha x^T dz"

ADDMM = Spec(
    name="addmm",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=addmm,
    native=torch.addmm,
    overrides=(torch.Tensor.addmm,),
    inplace={torch.Tensor.addmm_: in_place(addmm)},
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
ADDMV = Spec(
    name="addmv",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=addmv,
    native=torch.addmv,
    overrides=(torch.Tensor.addmv,),
    inplace={torch.Tensor.addmv_: in_place(addmv)},
    samples=_mv_samples,
)
BADDBMM = Spec(
    name="baddbmm",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=baddbmm,
    native=torch.baddbmm,
    overrides=(torch.Tensor.baddbmm,),
    inplace={torch.Tensor.baddbmm_: in_place(baddbmm)},
    samples=_bmm_samples,
)
ADDBMM = Spec(
    name="addbmm",
    formula=_FORMULA + ", summed over the batch",
    gradient=_GRADIENT,
    manual=addbmm,
    native=torch.addbmm,
    overrides=(torch.Tensor.addbmm,),
    inplace={torch.Tensor.addbmm_: in_place(addbmm)},
    samples=_addbmm_samples,
)
