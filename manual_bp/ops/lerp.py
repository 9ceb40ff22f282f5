r"""Lerp, addcmul, addcdiv: a sum and a product in one operation.

Forward and backward, everything broadcasting::

    z = x + w (y - x)    dL/dx = dL/dz (1 - w),  dL/dy = dL/dz w,  dL/dw = dL/dz (y - x)
    z = x + v a b        dL/dx = dL/dz,  dL/da = dL/dz v b,  dL/db = dL/dz v a
    z = x + v a / b      dL/dx = dL/dz,  dL/da = dL/dz v / b,  dL/db = -dL/dz v a / b^2
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.elementwise import FromInputs, asked_for, in_place, operands
from manual_bp.spec import Draw, Sample, Spec, sample


class LerpFunction(FromInputs):
    """``x`` and ``y``: tensors that broadcast; ``w``: another one, or a number."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, w: Any) -> Tensor:
        return torch.lerp(x, y, w)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        x, y, w = operands(ctx)
        w_conj = w.conj() if isinstance(w, Tensor) else w.conjugate()
        return asked_for(
            ctx,
            lambda: grad_z * (1 - w_conj),
            lambda: grad_z * w_conj,
            lambda: grad_z * (y - x).conj(),
        )


class AddcmulFunction(FromInputs):
    """``x``, ``a`` and ``b``: tensors that broadcast; ``v``: a number."""

    @staticmethod
    def forward(x: Tensor, a: Tensor, b: Tensor, v: float) -> Tensor:
        return torch.addcmul(x, a, b, value=v)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        _, a, b, v = operands(ctx)
        return asked_for(
            ctx,
            lambda: grad_z,
            lambda: grad_z * (b * v).conj(),
            lambda: grad_z * (a * v).conj(),
        )


class AddcdivFunction(FromInputs):
    """``x``, ``a`` and ``b``: tensors that broadcast; ``v``: a number."""

    @staticmethod
    def forward(x: Tensor, a: Tensor, b: Tensor, v: float) -> Tensor:
        return torch.addcdiv(x, a, b, value=v)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor) -> tuple[Tensor | None, ...]:
        _, a, b, v = operands(ctx)
        return asked_for(
            ctx,
            lambda: grad_z,
            lambda: grad_z * (v / b).conj(),
            lambda: -grad_z * (v * a / (b * b)).conj(),
        )


def lerp(input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """``x + w (y - x)`` with its gradients by hand; as ``torch.lerp``.

    Args:
        input: any shape
        end: a shape that broadcasts with ``input``'s
        weight: a number, or a shape that broadcasts with both

    Returns:
        The broadcast shape.
    """
    return LerpFunction.apply(input, end, weight)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``x + v a b`` with its gradients by hand; as ``torch.addcmul``.

    Args:
        input: any shape
        tensor1: a shape that broadcasts with ``input``'s
        tensor2: a shape that broadcasts with both
        value: a number to multiply the product by

    Returns:
        The broadcast shape.
    """
    return AddcmulFunction.apply(input, tensor1, tensor2, value)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``x + v a / b`` with its gradients by hand; as ``torch.addcdiv``.

    Args:
        input: any shape
        tensor1: a shape that broadcasts with ``input``'s
        tensor2: a shape that broadcasts with both
        value: a number to multiply the quotient by

    Returns:
        The broadcast shape.
    """
    return AddcdivFunction.apply(input, tensor1, tensor2, value)


def _lerp(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), draw(3), label="broadcast")
    yield sample(draw(4, 3), draw(3), 0.3, label="a number")


def _addcmul(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw(4, 3), draw(4, 3))
    yield sample(draw(2, 1, 3), draw(4, 1), draw(3), value=-2.5, label="broadcast, value")


def _addcdiv(draw: Draw) -> Iterator[Sample]:
    b = draw.uniform(4, 3, low=0.5, high=2.0).requires_grad_()
    yield sample(draw(4, 3), draw(4, 3), b)
    yield sample(draw(2, 1, 3), draw(4, 1), draw.values(-1.0, 2.0, 0.5), value=-2.5, label="value")


def _bench(draw: Draw) -> Iterator[Sample]:
    for shape in ((64, 512), (1024, 2048)):
        yield sample(draw(*shape), draw(*shape), draw(*shape))


LERP = Spec(
    name="lerp",
    formula="z = x + w (y - x)",
    gradient="dx = dz (1 - w),  dy = dz w,  dw = dz (y - x)",
    manual=lerp,
    native=torch.lerp,
    overrides=(torch.Tensor.lerp,),
    inplace={torch.Tensor.lerp_: in_place(lerp)},
    samples=_lerp,
    bench=_bench,
)

ADDCMUL = Spec(
    name="addcmul",
    formula="z = x + v a b",
    gradient="dx = dz,  da = dz v b,  db = dz v a",
    manual=addcmul,
    native=torch.addcmul,
    overrides=(torch.Tensor.addcmul,),
    inplace={torch.Tensor.addcmul_: in_place(addcmul)},
    samples=_addcmul,
    bench=_bench,
)

ADDCDIV = Spec(
    name="addcdiv",
    formula="z = x + v a / b",
    gradient="dx = dz,  da = dz v / b,  db = -dz v a / b^2",
    manual=addcdiv,
    native=torch.addcdiv,
    overrides=(torch.Tensor.addcdiv,),
    inplace={torch.Tensor.addcdiv_: in_place(addcdiv)},
    samples=_addcdiv,
    bench=_bench,
)
