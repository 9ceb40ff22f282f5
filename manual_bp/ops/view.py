r"""Views that keep the order of the numbers: reshape, flatten, squeeze and their like.

Forward: the numbers of ``x``, read in the same order, under another shape::

    y.flatten() = x.flatten()

Backward: nothing is computed, so each number's gradient is that of the number itself::

    dL/dx = dL/dy in the shape of x

The result shares its memory with ``x`` wherever torch's own does, and may be modified in place
like torch's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.views import view_of


class ReshapeFunction(Function):
    """``method`` names the method of ``x`` that makes the view; ``arguments`` are its own."""

    @staticmethod
    def forward(x: Tensor, method: str, *arguments: Any) -> Tensor:
        return getattr(x, method)(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.x_shape, ctx.others = inputs[0].shape, len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        # What has the shape is handed on as it is: another view of it would pass for a tensor of
        # its own, and be accumulated into.
        grad_x = grad_y if grad_y.shape == ctx.x_shape else grad_y.reshape(ctx.x_shape)
        return grad_x, *[None] * ctx.others


def view(input: Tensor, *shape: Any) -> Tensor:
    """``input`` under another shape, sharing its memory; as ``Tensor.view``.

    Args:
        input: any shape
        shape: sizes, one of which may be -1; or a dtype, which is left to autograd

    Raises:
        RuntimeError: From torch, where sizes or strides do not fit.
    """
    if shape and isinstance(shape[0], torch.dtype):
        return torch.Tensor.view(input, *shape)
    return view_of(ReshapeFunction, input, "view", *shape)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` under the shape of ``other``; as ``Tensor.view_as``."""
    return view_of(ReshapeFunction, input, "view", other.shape)


def reshape(input: Tensor, *shape: Any, **named: Any) -> Tensor:
    """``input`` under another shape, copied where it must be; as ``torch.reshape``.

    Args:
        input: any shape
        shape: sizes, one of which may be -1
        named: ``shape`` by its name

    Raises:
        RuntimeError: From torch, where the number of elements differs.
    """
    return view_of(ReshapeFunction, input, "reshape", *shape, *named.values())


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` under the shape of ``other``; as ``Tensor.reshape_as``."""
    return view_of(ReshapeFunction, input, "reshape", other.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from ``start_dim`` to ``end_dim`` made one; as ``torch.flatten``."""
    return view_of(ReshapeFunction, input, "flatten", start_dim, end_dim)


def ravel(input: Tensor) -> Tensor:
    """All axes made one; as ``torch.ravel``."""
    return view_of(ReshapeFunction, input, "ravel")


def squeeze(input: Tensor, *dim: Any, **named: Any) -> Tensor:
    """``input`` without its axes of size 1, or those of ``dim``; as ``torch.squeeze``."""
    return view_of(ReshapeFunction, input, "squeeze", *dim, *named.values())


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """``input`` with an axis of size 1 put in at ``dim``; as ``torch.unsqueeze``."""
    return view_of(ReshapeFunction, input, "unsqueeze", dim)


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """The axis ``dim`` made into several of ``sizes``; as ``torch.unflatten``."""
    return view_of(ReshapeFunction, input, "unflatten", dim, sizes)


class Flatten(torch.nn.Flatten):
    """``torch.nn.Flatten`` whose gradient is :class:`ReshapeFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Make the axes from ``start_dim`` to ``end_dim`` one."""
        return flatten(input, self.start_dim, self.end_dim)


class Unflatten(torch.nn.Unflatten):
    """``torch.nn.Unflatten`` whose gradient is :class:`ReshapeFunction`'s."""

    def forward(self, input: Tensor) -> Tensor:
        """Make the axis ``dim`` into several of ``unflattened_size``."""
        return unflatten(input, self.dim, self.unflattened_size)


def _view_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 4, -1)
    yield sample(draw(4, 3), (2, 6), label="a tuple")


def _reshape_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), (2, -1))
    yield sample(draw(1), (), label="no axis")


def _as_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), draw.fixed(2, 6))


def _flatten_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2), 1)
    yield sample(draw(4, 3, 2), end_dim=-2)
    yield sample(draw(), label="no axis")


def _ravel_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _squeeze_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 1, 3, 1))
    yield sample(draw(4, 1, 3, 1), -1)
    yield sample(draw(4, 1, 3, 1), 0, label="not of size 1")
    yield sample(draw(4, 1, 3, 1), (1, 2, 3), label="axes")


def _unsqueeze_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), -1)
    yield sample(draw(4, 3), 0)


def _unflatten_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 1, (2, -1))


def _flatten_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3, 2))
    yield sample(draw(4, 3, 2), 0, 1)


def _unflatten_modules(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), 1, (2, 3))
    yield sample(draw(4, 6), 1, torch.Size([3, 2]))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), (5, -1), label="sizes do not fit")


_FORMULA = "y holds the numbers of x in their order"
_GRADIENT = "dx = dy in the shape of x"

VIEW = Spec(
    name="view",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=view,
    native=torch.Tensor.view,
    samples=_view_samples,
    refused=_refused,
)
VIEW_AS = Spec(
    name="view_as",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=view_as,
    native=torch.Tensor.view_as,
    samples=_as_samples,
)
RESHAPE = Spec(
    name="reshape",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=reshape,
    native=torch.reshape,
    overrides=(torch.Tensor.reshape,),
    samples=_reshape_samples,
    refused=_refused,
)
RESHAPE_AS = Spec(
    name="reshape_as",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=reshape_as,
    native=torch.Tensor.reshape_as,
    samples=_as_samples,
)
FLATTEN = Spec(
    name="flatten",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=flatten,
    native=torch.flatten,
    overrides=(torch.Tensor.flatten,),
    samples=_flatten_samples,
    modules={Flatten: _flatten_modules},
)
RAVEL = Spec(
    name="ravel",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=ravel,
    native=torch.ravel,
    overrides=(torch.Tensor.ravel,),
    samples=_ravel_samples,
)
SQUEEZE = Spec(
    name="squeeze",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=squeeze,
    native=torch.squeeze,
    overrides=(torch.Tensor.squeeze,),
    samples=_squeeze_samples,
)
UNSQUEEZE = Spec(
    name="unsqueeze",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=unsqueeze,
    native=torch.unsqueeze,
    overrides=(torch.Tensor.unsqueeze,),
    samples=_unsqueeze_samples,
)
UNFLATTEN = Spec(
    name="unflatten",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=unflatten,
    native=torch.unflatten,
    overrides=(torch.Tensor.unflatten,),
    samples=_unflatten_samples,
    modules={Unflatten: _unflatten_modules},
)
