r"""A change of dtype, device or layout in memory: to, float, double, half, cfloat and their like.

Forward, the same numbers as nearly as the new dtype has them::

    y = x

Backward: back to where and what ``x`` is::

    dL/dx = dL/dy in the dtype of x, on the device of x

Rounding counts as the identity; its true derivative, 0 between its steps, would teach nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, in_dtype, nothing_to_do
from manual_bp.spec import Draw, Sample, Spec, sample


class ToFunction(Function):
    """``x``: any shape; the rest as ``Tensor.to`` takes it."""

    @staticmethod
    def forward(
        x: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        non_blocking: bool,
        copy: bool,
        memory_format: torch.memory_format,
    ) -> Tensor:
        return x.to(
            dtype=dtype,
            device=device,
            non_blocking=non_blocking,
            copy=copy,
            memory_format=memory_format,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x = inputs[0]
        ctx.dtype, ctx.device = x.dtype, x.device

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        return in_dtype(grad_y, ctx.dtype).to(ctx.device), None, None, None, None, None


def _to(
    input: Tensor,
    dtype: torch.dtype | None = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    dtype = input.dtype if dtype is None else dtype
    device = input.device if device is None else torch.device(device)
    memory_format = memory_format or torch.preserve_format
    same = dtype == input.dtype and device == input.device and not copy
    if same and memory_format == torch.preserve_format:
        return input
    if nothing_to_do(input) or not (dtype.is_floating_point or dtype.is_complex):
        return input.to(
            dtype=dtype,
            device=device,
            non_blocking=non_blocking,
            copy=copy,
            memory_format=memory_format,
        )
    return ToFunction.apply(input, dtype, device, non_blocking, copy, memory_format)


def to(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``input`` in another dtype or on another device, itself if it is so; as ``Tensor.to``.

    Args:
        input: any shape
        args: a dtype, a device, both, or a tensor to be like
        kwargs: the same by name; ``non_blocking``, ``copy``, ``memory_format``
    """
    named = dict(kwargs)
    rest = list(args)
    like = named.pop("other", None)
    if rest and isinstance(rest[0], Tensor):
        like = rest.pop(0)
    if like is not None:
        named |= {"dtype": like.dtype, "device": like.device}
    elif rest and not isinstance(rest[0], torch.dtype):
        named["device"] = rest.pop(0)
    if rest and (rest[0] is None or isinstance(rest[0], torch.dtype)):
        named["dtype"] = rest.pop(0)
    named |= dict(zip(("non_blocking", "copy"), rest, strict=False))
    return _to(input, **named)


def float(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in float32; as ``Tensor.float``."""
    return _to(input, torch.float32, memory_format=memory_format)


def double(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in float64; as ``Tensor.double``."""
    return _to(input, torch.float64, memory_format=memory_format)


def half(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in float16; as ``Tensor.half``."""
    return _to(input, torch.float16, memory_format=memory_format)


def bfloat16(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in bfloat16; as ``Tensor.bfloat16``."""
    return _to(input, torch.bfloat16, memory_format=memory_format)


def cfloat(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in complex64; as ``Tensor.cfloat``."""
    return _to(input, torch.complex64, memory_format=memory_format)


def cdouble(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in complex128; as ``Tensor.cdouble``."""
    return _to(input, torch.complex128, memory_format=memory_format)


def chalf(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in complex32; as ``Tensor.chalf``."""
    return _to(input, torch.complex32, memory_format=memory_format)


def type(input: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """``input`` in ``dtype``, or the name of its type; as ``Tensor.type``."""
    if not isinstance(dtype, torch.dtype):
        return torch.Tensor.type(input, *([] if dtype is None else [dtype, non_blocking]))
    return _to(input, dtype, non_blocking=non_blocking)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` in the dtype and on the device of ``other``; as ``Tensor.type_as``."""
    return _to(input, other.dtype, other.device)


def cpu(input: Tensor, memory_format: torch.memory_format | None = None) -> Tensor:
    """``input`` in the memory of the processor; as ``Tensor.cpu``."""
    return _to(input, device="cpu", memory_format=memory_format)


def cuda(
    input: Tensor,
    device: Any = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """``input`` in the memory of a GPU; as ``Tensor.cuda``."""
    if device is None or isinstance(device, int):
        index = torch.cuda.current_device() if device is None else device
        device = torch.device("cuda", index)
    return _to(input, None, device, non_blocking, memory_format=memory_format)


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), torch.float32, smooth=False)
    yield sample(draw(4, 3), "cpu", copy=True, label="a copy")
    yield sample(
        draw(4, 3), torch.ones(1, dtype=torch.bfloat16), label="like another", smooth=False
    )
    yield sample(draw(4, 3), "cpu", torch.float16, label="device and dtype", smooth=False)


def _float_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), smooth=False)


def _double_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.fixed(4, 3).float().requires_grad_(), smooth=False)


def _complex_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3))


def _type_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), torch.float32, smooth=False)


def _type_as_samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), torch.ones(1, dtype=torch.float32), smooth=False)


_GRADIENT = "dx = dy in the dtype of x"

TO = Spec(
    name="to",
    formula="y = x",
    gradient=_GRADIENT,
    manual=to,
    native=torch.Tensor.to,
    inplace={torch.Tensor.cpu: cpu, torch.Tensor.cuda: cuda, torch.Tensor.chalf: chalf},
    samples=_samples,
)
FLOAT = Spec(
    name="float",
    formula="y = x",
    gradient=_GRADIENT,
    manual=float,
    native=torch.Tensor.float,
    samples=_float_samples,
)
DOUBLE = Spec(
    name="double",
    formula="y = x",
    gradient=_GRADIENT,
    manual=double,
    native=torch.Tensor.double,
    samples=_double_samples,
)
HALF = Spec(
    name="half",
    formula="y = x",
    gradient=_GRADIENT,
    manual=half,
    native=torch.Tensor.half,
    samples=_float_samples,
)
BFLOAT16 = Spec(
    name="bfloat16",
    formula="y = x",
    gradient=_GRADIENT,
    manual=bfloat16,
    native=torch.Tensor.bfloat16,
    samples=_float_samples,
)
CFLOAT = Spec(
    name="cfloat",
    formula="y = x",
    gradient=_GRADIENT,
    manual=cfloat,
    native=torch.Tensor.cfloat,  # type: ignore[attr-defined]
    samples=_float_samples,
)
CDOUBLE = Spec(
    name="cdouble",
    formula="y = x",
    gradient=_GRADIENT,
    manual=cdouble,
    native=torch.Tensor.cdouble,  # type: ignore[attr-defined]
    samples=_complex_samples,
)
TYPE = Spec(
    name="type",
    formula="y = x",
    gradient=_GRADIENT,
    manual=type,
    native=torch.Tensor.type,
    samples=_type_samples,
)
TYPE_AS = Spec(
    name="type_as",
    formula="y = x",
    gradient=_GRADIENT,
    manual=type_as,
    native=torch.Tensor.type_as,
    samples=_type_as_samples,
)
