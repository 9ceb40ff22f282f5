r"""The discrete Fourier transform along one axis or several: fft, ifft, fftn; fftshift.

Indices: ``n`` place, ``k`` frequency, of N each; several axes are transformed one after another.
Forward, with w = e^(-2 pi i / N)::

    y_k = c sum_n x_n w^(nk)             fft
    y_n = c sum_k x_k w^(-nk)            ifft, with the conjugates of w

Backward. A linear map y = F x passes dL/dy through the conjugate transpose of F (complex.py). F is
symmetric, so of F only the conjugate is left, which is the inverse transform's matrix::

    fft     dL/dx_n = c sum_k dL/dy_k w^(-nk)       an ifft with the factor c
    ifft    dL/dx_k = c sum_n dL/dy_n w^(nk)        an fft with the factor c

The transform is its own gradient, in N log N steps. c is 1 in one direction and 1/N in the other,
or 1/sqrt(N) in both: ``norm`` says which, and the backward keeps the c of its forward, for which
"backward" and "forward" change places. Zeros that filled x up to N are cut off its gradient; what
of x was cut off has the gradient 0. A real x takes the real part.

Cooley & Tukey (1965), "An Algorithm for the Machine Calculation of Complex Fourier Series".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.ops.flip import roll
from manual_bp.spec import Draw, Sample, Spec, sample

# The norm that scales the transform the other way round by the same factor.
SAME_FACTOR = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


class FourierFunction(Function):
    """``x``: any shape; ``name``: of the transform in ``torch.fft``; the rest is its arguments."""

    @staticmethod
    def forward(x: Tensor, name: str, size: Any, dim: Any, norm: str | None) -> Tensor:
        return getattr(torch.fft, name)(x, size, dim, norm)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, name, size, dim, norm = inputs
        ctx.dims = axes(x, size, dim)
        ctx.back = torch.fft.fftn if name.startswith("i") else torch.fft.ifftn
        ctx.norm = SAME_FACTOR[norm]
        ctx.shape, ctx.dtype = x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        grad_x = ctx.back(grad_y, dim=ctx.dims, norm=ctx.norm)
        return fitted(grad_x, ctx.shape, ctx.dtype, ctx.dims), None, None, None, None


def axes(x: Tensor, size: Any, dim: Any) -> list[int]:
    """The axes that are transformed, counted from the front.

    Without ``dim`` they are the last ones, as many as ``size`` has numbers, or all.
    """
    rank = x.dim()
    if dim is None:
        count = rank if size is None else 1 if isinstance(size, int) else len(size)
        return list(range(rank - count, rank))
    return [d % rank for d in ([dim] if isinstance(dim, int) else dim)]


def fitted(grad: Tensor, shape: torch.Size, dtype: torch.dtype, dims: list[int]) -> Tensor:
    """The gradient of an input that was cut or filled up with zeros along ``dims``."""
    if not dtype.is_complex:
        grad = grad.real
    for d in dims:
        missing = shape[d] - grad.shape[d]
        if missing < 0:
            grad = grad.narrow(d, 0, shape[d])
        elif missing > 0:
            zeros = [*grad.shape[:d], missing, *grad.shape[d + 1 :]]
            grad = torch.cat((grad, grad.new_zeros(zeros)), d)
    return grad if grad.dtype == dtype else grad.to(dtype)


_float32 = under_autocast("float32", devices=("cpu",))


@_float32
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Fourier transform along an axis, its gradient by hand; as ``torch.fft.fft``.

    Args:
        input: any shape, real or complex
        n: length of the transform; ``input`` is cut, or filled up with zeros
        dim: the axis
        norm: "backward" (as it is), "ortho" (over sqrt(N)) or "forward" (over N)

    Returns:
        The shape of ``input``, with ``n`` along ``dim``, complex.

    Raises:
        RuntimeError: From torch, for ``n`` below 1 or another ``norm``.
        IndexError: From torch, where there is no such axis.
    """
    return FourierFunction.apply(input, "fft", n, dim, norm)


@_float32
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of :func:`fft`, over N by default; as ``torch.fft.ifft``."""
    return FourierFunction.apply(input, "ifft", n, dim, norm)


@_float32
def fft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`fftn` of the last two axes; as ``torch.fft.fft2``."""
    return FourierFunction.apply(input, "fft2", s, dim, norm)


@_float32
def ifft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """:func:`ifftn` of the last two axes; as ``torch.fft.ifft2``."""
    return FourierFunction.apply(input, "ifft2", s, dim, norm)


@_float32
def fftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """Fourier transform along several axes, its gradient by hand; as ``torch.fft.fftn``.

    Args:
        input: any shape, real or complex
        s: length along each axis, -1 for an axis as it is; ``input`` is cut, or filled with zeros
        dim: the axes; None for the last ones, as many as ``s`` has, or all
        norm: "backward" (as it is), "ortho" (over sqrt(N)) or "forward" (over N), N of all axes

    Returns:
        The shape of ``input``, with ``s`` along ``dim``, complex.

    Raises:
        RuntimeError: From torch, where ``s`` and ``dim`` do not fit, or for another ``norm``.
        IndexError: From torch, where there is no such axis.
    """
    return FourierFunction.apply(input, "fftn", s, dim, norm)


@_float32
def ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of :func:`fftn`, over N by default; as ``torch.fft.ifftn``."""
    return FourierFunction.apply(input, "ifftn", s, dim, norm)


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The frequency 0 in the middle of each axis; as ``torch.fft.fftshift``.

    Args:
        input: any shape
        dim: an axis, several, or None for all
    """
    dims = axes(input, None, dim)
    return roll(input, [input.shape[d] // 2 for d in dims], dims)


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of :func:`fftshift`; as ``torch.fft.ifftshift``."""
    dims = axes(input, None, dim)
    return roll(input, [(input.shape[d] + 1) // 2 for d in dims], dims)


def _one_axis(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 5))
    yield sample(draw(4, 5), label="of real numbers")
    yield sample(draw.complex(4, 5), 7, 0, "ortho", label="filled up, ortho")
    yield sample(draw.complex(4, 5), n=3, norm="forward", label="cut, forward")


def _two_axes(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(2, 4, 3), s=(3, 5), norm="ortho")


def _axes(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(2, 4, 3))
    yield sample(draw(2, 4, 3), (5, -1), (0, -1), label="of real numbers, two axes")


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 3), 0, label="no length")
    yield sample(draw(4, 3), dim=2, label="no such axis")
    yield sample(draw(4, 3), norm="no", label="no such norm")


def _shift(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(4, 5))
    yield sample(draw(4, 5, 3), (1, -1), label="axes")


def _bench(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(64, 512))
    yield sample(draw.complex(1024, 2048))


def _spec(manual: Callable[..., Tensor], samples: Any, refused: Any = None) -> Spec:
    inverse = manual.__name__.startswith("i")
    there, back = ("-nk", "nk") if inverse else ("nk", "-nk")
    return Spec(
        name=manual.__name__,
        formula=f"y_k = c sum_n x_n w^({there})",
        gradient=f"dx_n = c sum_k dy_k w^({back})",
        manual=manual,
        native=getattr(torch.fft, manual.__name__),
        samples=samples,
        refused=refused or (lambda draw: ()),
        bench=_bench,
    )


FFT = _spec(fft, _one_axis, _refused)
IFFT = _spec(ifft, _one_axis, _refused)
FFT2 = _spec(fft2, _two_axes)
IFFT2 = _spec(ifft2, _two_axes)
FFTN = _spec(fftn, _axes)
IFFTN = _spec(ifftn, _axes)
FFTSHIFT = Spec(
    name="fftshift",
    formula="y_m = x_(m - N//2), around",
    gradient="dx_n = dy_(n + N//2)",
    manual=fftshift,
    native=torch.fft.fftshift,
    samples=_shift,
)
IFFTSHIFT = Spec(
    name="ifftshift",
    formula="y_m = x_(m + N//2), around",
    gradient="dx_n = dy_(n - N//2)",
    manual=ifftshift,
    native=torch.fft.ifftshift,
    samples=_shift,
)
