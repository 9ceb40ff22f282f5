r"""Take a tensor apart along an axis: split, chunk, unbind.

Forward: pieces y_1, y_2, ... of ``x``, which share its memory::

    x = [y_1, y_2, ...]

Backward: the pieces' gradients, put together again; 0 for a piece that nobody used::

    dL/dx = [dL/dy_1, dL/dy_2, ...]

It is the backward of cat, read from the other end. As with torch's own, the pieces may not be
modified in place: autograd could not tell which of them the change concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.spec import Draw, Sample, Spec, sample


class SplitFunction(Function):
    """``x``: any shape; ``method`` and ``pieces``: as ``torch.split`` and its like take them."""

    @staticmethod
    def forward(x: Tensor, method: str, pieces: Any, dim: int) -> tuple[Tensor, ...]:
        return tuple(getattr(x, method)(pieces, dim))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, _, ctx.dim = inputs
        ctx.shapes = [piece.shape for piece in output]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        some = next((g for g in grads if g is not None), None)
        if some is None:
            return None, None, None, None
        pieces = [
            some.new_zeros(shape) if g is None else g
            for g, shape in zip(grads, ctx.shapes, strict=True)
        ]
        return torch.cat(pieces, ctx.dim), None, None, None


class UnbindFunction(Function):
    """``x``: at least one axis."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> tuple[Tensor, ...]:
        return x.unbind(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.dim = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        some = next((g for g in grads if g is not None), None)
        if some is None:
            return None, None
        pieces = [torch.zeros_like(some) if g is None else g for g in grads]
        return torch.stack(pieces, ctx.dim), None


def split(
    tensor: Tensor, split_size_or_sections: int | list[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """Pieces of a size, or of a list of sizes, along ``dim``; as ``torch.split``.

    Args:
        tensor: any shape with an axis
        split_size_or_sections: the size of each piece but the last, or the size of each
        dim: an axis

    Raises:
        RuntimeError: From torch, where the sizes do not add up.
    """
    return SplitFunction.apply(tensor, "split", split_size_or_sections, dim)


def split_with_sizes(input: Tensor, split_sizes: list[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of a list of sizes; as ``torch.split_with_sizes``."""
    return SplitFunction.apply(input, "split_with_sizes", split_sizes, dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` pieces of equal size, the last may be smaller; as ``torch.chunk``."""
    return SplitFunction.apply(input, "chunk", chunks, dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces cut at indices, or nearly equal ones; as ``torch.tensor_split``."""
    return SplitFunction.apply(input, "tensor_split", indices_or_sections, dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``dim``, without that axis; as ``torch.unbind``."""
    return UnbindFunction.apply(input, dim)


def _unsafe(method: str) -> Callable[..., tuple[Tensor, ...]]:
    """The face of a method whose pieces, torch is told, are not modified in place with ``x``."""

    def split(input: Tensor, pieces: Any, dim: int = 0) -> tuple[Tensor, ...]:
        return SplitFunction.apply(input, method, pieces, dim)

    return split


def hsplit(input: Tensor, *indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces cut along the second axis, of a vector along its own; as ``torch.hsplit``.

    Args:
        input: at least one axis
        indices_or_sections: where to cut, or how many pieces of equal size

    Raises:
        RuntimeError: From torch, where there is no such axis or the pieces are not equal.
    """
    return _cut(torch.hsplit, input, 0 if input.dim() == 1 else 1, indices_or_sections)


def vsplit(input: Tensor, *indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces cut along the first of at least two axes; as ``torch.vsplit``."""
    return _cut(torch.vsplit, input, 0, indices_or_sections, axes=2)


def dsplit(input: Tensor, *indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Pieces cut along the third axis; as ``torch.dsplit``."""
    return _cut(torch.dsplit, input, 2, indices_or_sections, axes=3)


def _cut(native: Any, input: Tensor, dim: int, given: tuple[Any, ...], axes: int = 1) -> Any:
    if len(given) == 1:
        (given,) = given
    if input.dim() < axes or (isinstance(given, int) and input.shape[dim] % given):
        return native(input, given)  # which says what is wrong
    return SplitFunction.apply(input, "tensor_split", given, dim)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), 2)
    yield sample(draw(4, 6), [1, 0, 5], -1, label="sizes")


def _chunk_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(5, 3), 3)
    yield sample(draw(4, 6), 2, -1, label="last axis")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), [1, 2], 1, label="do not add up")


def _with_sizes_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6), [1, 5], 1)


def _tensor_split_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(7, 2), 3)
    yield sample(draw(4, 6), (1, 4), 1, label="indices")


def _hsplit_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 4, 2), 2)
    yield sample(draw(4, 6, 2), (1, 4), label="indices")


def _hsplit_refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 5), 2, label="not equal")


def _unbind_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))
    yield sample(draw(4, 3, 2), -2, label="from the end")


_FORMULA = "x = [y_1, y_2, ...]"
_GRADIENT = "dx = [dy_1, dy_2, ...]"

SPLIT = Spec(
    name="split",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=split,
    native=torch.split,
    overrides=(torch.Tensor.split,),
    inplace={
        torch.unsafe_split: _unsafe("unsafe_split"),
        torch.Tensor.unsafe_split: _unsafe("unsafe_split"),
        torch.unsafe_split_with_sizes: _unsafe("unsafe_split_with_sizes"),
        torch.Tensor.unsafe_split_with_sizes: _unsafe("unsafe_split_with_sizes"),
        torch.unsafe_chunk: _unsafe("unsafe_chunk"),
        torch.Tensor.unsafe_chunk: _unsafe("unsafe_chunk"),
    },
    samples=_samples,
    refused=_refused,
)
SPLIT_WITH_SIZES = Spec(
    name="split_with_sizes",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=split_with_sizes,
    native=torch.split_with_sizes,
    overrides=(torch.Tensor.split_with_sizes,),
    samples=_with_sizes_samples,
)
CHUNK = Spec(
    name="chunk",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=chunk,
    native=torch.chunk,
    overrides=(torch.Tensor.chunk,),
    samples=_chunk_samples,
)
TENSOR_SPLIT = Spec(
    name="tensor_split",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=tensor_split,
    native=torch.tensor_split,
    overrides=(torch.Tensor.tensor_split,),
    samples=_tensor_split_samples,
)
HSPLIT = Spec(
    name="hsplit",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=hsplit,
    native=torch.hsplit,
    overrides=(torch.Tensor.hsplit,),
    inplace={
        torch.vsplit: vsplit,
        torch.Tensor.vsplit: vsplit,
        torch.dsplit: dsplit,
        torch.Tensor.dsplit: dsplit,
    },
    samples=_hsplit_samples,
    refused=_hsplit_refused,
)
UNBIND = Spec(
    name="unbind",
    formula=_FORMULA,
    gradient=_GRADIENT,
    manual=unbind,
    native=torch.unbind,
    overrides=(torch.Tensor.unbind,),
    samples=_unbind_samples,
)
