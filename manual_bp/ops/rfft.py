r"""Fourier transforms of real signals, whose spectra need half the numbers: rfft, irfft, hfft.

The spectrum of a real x mirrors itself, y_(N-k) = conj(y_k), and rfft keeps k = 0..K-1 alone, with
K = N/2 + 1, rounded down. Forward, with w = e^(-2 pi i / N) and m_k the number of times that a kept
frequency stands in the whole spectrum, 1 at k = 0 and at N/2, else 2::

    y_k = c sum_n x_n w^(nk)                       rfft       (..., N) to (..., K)
    y_n = c sum_k m_k Re(x_k w^(-nk))              irfft      (..., K) to (..., N)

Backward. Each kept number is blamed for what it did, with the conjugate of its factor::

    rfft     dL/dx_n = c sum_k Re(dL/dy_k w^(-nk))        irfft of dL/dy_k / m_k
    irfft    dL/dx_k = c m_k sum_n dL/dy_n w^(nk)         m_k times rfft of dL/dy

So each is the other's backward but for m_k: irfft doubles the frequencies that stand for two, rfft
does not. The obvious way, to fill dL/dy up with zeros to the whole spectrum and to take a complex
transform of it, does twice the work.

hfft is the same from the other side, of a signal that mirrors itself with a real spectrum: irfft of
the conjugate; ihfft is the conjugate of rfft. Of several axes the last is halved, the others are
transformed as in fft.py, where c and the lengths are explained.

Sorensen, Jones, Heideman & Burrus (1987), "Real-Valued Fast Fourier Transform Algorithms".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.conj import conj, conj_physical
from manual_bp.ops.fft import SAME_FACTOR, axes, fitted
from manual_bp.spec import Draw, Sample, Spec, sample


def weighted(spectrum: Tensor, weight: float, length: int, dim: int) -> Tensor:
    """Half a spectrum of ``length``, with ``weight`` on what stands for two; K along ``dim``."""
    weights = torch.full(spectrum.shape[dim : dim + 1], weight, device=spectrum.device)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    return spectrum * weights.view(-1, *[1] * (spectrum.dim() - 1 - dim))


class RealFourierFunction(Function):
    """``x``: real, any shape; ``name``: of the transform in ``torch.fft``; then its arguments."""

    @staticmethod
    def forward(x: Tensor, name: str, size: Any, dim: Any, norm: str | None) -> Tensor:
        return getattr(torch.fft, name)(x, size, dim, norm)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, size, dim, norm = inputs
        ctx.dims = axes(x, size, dim)
        last = ctx.dims[-1]
        length = -1 if size is None else size if isinstance(size, int) else size[-1]
        ctx.lengths = [output.shape[d] for d in ctx.dims]
        ctx.lengths[-1] = x.shape[last] if length == -1 else length
        ctx.norm = SAME_FACTOR[norm]
        ctx.shape, ctx.dtype = x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        once = weighted(grad_y, 0.5, ctx.lengths[-1], ctx.dims[-1])
        grad_x = torch.fft.irfftn(once, ctx.lengths, ctx.dims, ctx.norm)
        return fitted(grad_x, ctx.shape, ctx.dtype, ctx.dims), None, None, None, None


class InverseRealFourierFunction(Function):
    """``x``: any shape; ``name``: of the transform in ``torch.fft``; then its arguments."""

    @staticmethod
    def forward(x: Tensor, name: str, size: Any, dim: Any, norm: str | None) -> Tensor:
        return getattr(torch.fft, name)(x, size, dim, norm)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, size, dim, norm = inputs
        ctx.dims = axes(x, size, dim)
        ctx.norm = SAME_FACTOR[norm]
        ctx.shape, ctx.dtype = x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        last = ctx.dims[-1]
        spectrum = torch.fft.rfftn(grad_y, dim=ctx.dims, norm=ctx.norm)
        grad_x = weighted(spectrum, 2.0, grad_y.shape[last], last)
        return fitted(grad_x, ctx.shape, ctx.dtype, ctx.dims), None, None, None, None


_float32 = under_autocast("float32", devices=("cpu",))


@_float32
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Half the spectrum of a real signal, its gradient by hand; as ``torch.fft.rfft``.

    Args:
        input: real, any shape
        n: length N of the signal; ``input`` is cut, or filled up with zeros
        dim: the axis
        norm: "backward" (as it is), "ortho" (over sqrt(N)) or "forward" (over N)

    Returns:
        The shape of ``input``, with N/2 + 1 along ``dim``, complex.

    Raises:
        RuntimeError: From torch, for complex ``input``, ``n`` below 1 or another ``norm``.
        IndexError: From torch, where there is no such axis.
    """
    return RealFourierFunction.apply(input, "rfft", n, dim, norm)


@_float32
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real signal of half a spectrum, its gradient by hand; as ``torch.fft.irfft``.

    Args:
        input: any shape
        n: length N of the signal; None for 2 (K - 1), with K the size along ``dim``
        dim: the axis
        norm: "backward" (over N), "ortho" (over sqrt(N)) or "forward" (as it is)

    Returns:
        The shape of ``input``, with N along ``dim``, real.

    Raises:
        RuntimeError: From torch, for ``n`` below 1 or another ``norm``.
        IndexError: From torch, where there is no such axis.
    """
    return InverseRealFourierFunction.apply(input, "irfft", n, dim, norm)


@_float32
def rfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`rfftn` of the last two axes; as ``torch.fft.rfft2``."""
    return RealFourierFunction.apply(input, "rfft2", s, dim, norm)


@_float32
def irfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`irfftn` of the last two axes; as ``torch.fft.irfft2``."""
    return InverseRealFourierFunction.apply(input, "irfft2", s, dim, norm)


@_float32
def rfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """:func:`rfft` of the last of several axes, fft of the others; as ``torch.fft.rfftn``."""
    return RealFourierFunction.apply(input, "rfftn", s, dim, norm)


@_float32
def irfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """:func:`irfft` of the last of several axes, ifft of the others; as ``torch.fft.irfftn``."""
    return InverseRealFourierFunction.apply(input, "irfftn", s, dim, norm)


def _mirrored(name: str, input: Tensor, size: Any, dim: Any, norm: str | None) -> Tensor:
    norm = SAME_FACTOR.get(norm, norm)  # another word is refused by torch
    return InverseRealFourierFunction.apply(conj(input), name, size, dim, norm)


def _unmirrored(name: str, input: Tensor, size: Any, dim: Any, norm: str | None) -> Tensor:
    norm = SAME_FACTOR.get(norm, norm)
    return conj_physical(RealFourierFunction.apply(input, name, size, dim, norm))


@_float32
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real spectrum of a signal that mirrors itself, by hand; as ``torch.fft.hfft``."""
    return _mirrored("irfft", input, n, dim, norm)


@_float32
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of :func:`hfft`, half of it; as ``torch.fft.ihfft``."""
    return _unmirrored("rfft", input, n, dim, norm)


def hfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`hfftn` of the last two axes; as ``torch.fft.hfft2``."""
    return _mirrored("irfft2", input, s, dim, norm)


def ihfft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`ihfftn` of the last two axes; as ``torch.fft.ihfft2``."""
    return _unmirrored("rfft2", input, s, dim, norm)


def hfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """:func:`hfft` of the last of several axes, fft of the others; as ``torch.fft.hfftn``."""
    return _mirrored("irfftn", input, s, dim, norm)


def ihfftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """:func:`ihfft` of the last of several axes, ifft of the others; as ``torch.fft.ihfftn``."""
    return _unmirrored("rfftn", input, s, dim, norm)


def _signal(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 6))
    yield sample(draw(4, 5), 7, 0, "ortho", label="filled up, odd, ortho")
    yield sample(draw(4, 5), n=3, norm="forward", label="cut, forward")


def _signal_axes(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 4, 3), (5, 4), (0, -1))


def _half(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(3, 4))
    yield sample(draw.complex(4, 5), 7, 0, "ortho", label="filled up, odd, ortho")
    yield sample(draw.complex(4, 5), n=3, norm="forward", label="cut, forward")
    yield sample(draw(4, 5), label="of real numbers")


def _half_axes(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(2, 4, 3), (5, 4), (0, -1))


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, label="no length")
    yield sample(draw(4, 3), dim=2, label="no such axis")
    yield sample(draw(4, 3), norm="no", label="no such norm")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(64, 512))
    yield sample(draw(1024, 2048))


def _half_bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(64, 257))
    yield sample(draw.complex(1024, 1025))


def _spec(manual: Callable[..., Tensor]) -> Spec:
    name = manual.__name__
    one_axis = name[-1] == "t"
    to_half = ("rfft" in name and name[0] == "r") or name.startswith("ih")
    return Spec(
        name=name,
        formula="y_k = c sum_n x_n w^(nk)" if to_half else "y_n = c sum_k m_k Re(x_k w^(-nk))",
        gradient="dx = irfft of dy / m" if to_half else "dx = m rfft of dy",
        manual=manual,
        native=getattr(torch.fft, name),
        samples=(_signal if one_axis else _signal_axes)
        if to_half
        else (_half if one_axis else _half_axes),
        refused=_refused if one_axis else lambda draw: (),
        bench=_bench if to_half else _half_bench,
    )


RFFT = _spec(rfft)
IRFFT = _spec(irfft)
RFFT2 = _spec(rfft2)
IRFFT2 = _spec(irfft2)
RFFTN = _spec(rfftn)
IRFFTN = _spec(irfftn)
HFFT = _spec(hfft)
IHFFT = _spec(ihfft)
HFFT2 = _spec(hfft2)
IHFFT2 = _spec(ihfft2)
HFFTN = _spec(hfftn)
IHFFTN = _spec(ihfftn)
