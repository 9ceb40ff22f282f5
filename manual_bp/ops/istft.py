r"""The inverse of stft: the signal that has the given spectra of its overlapping pieces.

With the indices of stft.py, forward::

    f_mt = c sum_k m_k Re(x_kt w^(-km))           each frame back from its spectrum
    y_i  = sum_t v_m f_mt / e_i,   m = i - tH     laid over each other, over
    e_i  = sum_t v_m^2,            m = i - tH     the envelope of the windows

Backward. Frames are cut out of dL/dy, where they were laid over each other, and transformed as in
rfft.py. The window is above and below the line, and so is blamed for y / e too::

    h_i      = dL/dy_i / e_i
    dL/dx_kt = c m_k sum_m v_m h_(tH+m) w^(km)                      (B, K, T)
    dL/dv_m  = sum_t (f_mt - 2 v_m y_(tH+m)) h_(tH+m)               (M)

y is the signal whose stft is nearest to x by least squares: Griffin & Lim (1984), "Signal
Estimation from Modified Short-Time Fourier Transform", section III.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function
from manual_bp.ops.rfft import weighted
from manual_bp.ops.stft import frames, in_frame, of_window, overlapped
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


class IstftFunction(Function):
    """``x``: (K, T) or (B, K, T); ``window``: at most M, or None; ``length``: of the signal."""

    @staticmethod
    def forward(
        x: Tensor,
        window: Tensor | None,
        n_fft: int,
        hop_length: int | None,
        win_length: int | None,
        center: bool,
        normalized: bool,
        onesided: bool | None,
        length: int | None,
        return_complex: bool,
    ) -> Tensor:
        if torch._C._are_functorch_transforms_active():  # torch's kernel has no rule for a batch
            v = in_frame(window, x.real, win_length or n_fft, n_fft)
            back = torch.fft.ifft if return_complex else torch.fft.irfft
            f = back(x, n_fft, -2, "ortho" if normalized else "backward")
            hop, start = hop_length or n_fft // 4, n_fft // 2 if center else 0
            whole = n_fft + (x.shape[-1] - 1) * hop
            length = whole - 2 * start if length is None else length
            kept = min(length, whole - start)
            sums = overlapped(f * v, whole, hop).narrow(-1, start, kept)
            y = sums / _envelope(v, x.shape[-1], hop).narrow(-1, start, kept)
            return F.pad(y, [0, length - kept])
        return torch.istft(
            x,
            n_fft,
            hop_length,
            win_length,
            window,
            center,
            normalized,
            onesided,
            length,
            return_complex,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, window, size, hop, win_length, center, normalized, *_ = inputs
        ctx.size, ctx.hop, ctx.win_length = size, hop or size // 4, win_length or size
        ctx.start = size // 2 if center else 0
        ctx.norm, ctx.back = ("ortho", "ortho") if normalized else ("backward", "forward")
        ctx.save_for_backward(x, window, output if ctx.needs_input_grad[1] else None)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, window, y = ctx.saved_tensors
        size, hop, start, count = ctx.size, ctx.hop, ctx.start, x.shape[-1]
        v = in_frame(window, x.real, ctx.win_length, size)
        envelope = _envelope(v, count, hop)
        whole = envelope.shape[-1]
        kept = min(grad_y.shape[-1], whole - start)  # zeros behind it were appended
        around = [start, whole - start - kept]
        h = grad_y.narrow(-1, 0, kept) / envelope.narrow(-1, start, kept).conj()
        h = frames(F.pad(h, around), size, hop)
        grad_x = grad_window = None
        if ctx.needs_input_grad[0]:
            if h.is_complex():
                grad_x = torch.fft.fft(h * v.conj(), dim=-2, norm=ctx.back)
            else:
                half = torch.fft.rfft(h * v, dim=-2, norm=ctx.back)
                half = weighted(half, 2.0, size, half.dim() - 2)
                # Of a whole spectrum nothing but the half was read.
                grad_x = F.pad(half, [0, 0, 0, x.shape[-2] - half.shape[-2]])
        if ctx.needs_input_grad[1]:
            back = torch.fft.ifft if h.is_complex() else torch.fft.irfft
            f = back(x, size, -2, ctx.norm)
            y = frames(F.pad(y.narrow(-1, 0, kept), around), size, hop)
            grad_window = of_window((f - 2 * v * y).conj() * h, window, size)
        return grad_x, grad_window, *[None] * 8


def _envelope(v: Tensor, count: int, hop: int) -> Tensor:
    """The squares of ``count`` windows (M, 1), laid over each other."""
    size = v.shape[0]
    return overlapped(v.square().expand(size, count), size + (count - 1) * hop, hop)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal of overlapping frames' spectra, gradients by hand; as ``torch.istft``.

    Args:
        input: (K, T) or (B, K, T), complex
        n_fft: places in a frame, M
        hop_length: places from one frame to the next; M/4 by default
        win_length: of the window, at most M
        window: (win_length), ones by default
        center: whether stft padded the signal, which is cut off again
        normalized: whether stft divided by sqrt(M)
        onesided: whether K is M/2 + 1
        length: of the signal, which is cut, or filled up with zeros
        return_complex: whether the signal is complex

    Returns:
        (L) or (B, L).

    Raises:
        RuntimeError: From torch, where sizes do not fit, or a place is under no window.
    """
    return IstftFunction.apply(
        input,
        window,
        n_fft,
        hop_length,
        win_length,
        center,
        normalized,
        onesided,
        length,
        return_complex,
    )


def _samples(draw: Draw) -> Iterator[Sample]:
    v = draw.uniform(6, low=0.5, high=1.5).requires_grad_()
    yield sample(draw.complex(2, 4, 5), 6, None, None, v)
    yield sample(draw.complex(5, 6), 8, 2, 6, v, True, True, None, 7, label="cut, normalized")
    yield sample(
        draw.complex(2, 5, 4),
        5,
        2,
        5,
        v.detach()[:5],
        False,
        False,
        False,
        9,
        True,
        label="complex, shorter",
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw.complex(4, 5), 8, label="another n_fft")


def _bench(draw: Draw) -> Iterator[Sample]:
    for count, length in ((1, 125), (16, 500)):
        window = torch.hann_window(512, dtype=draw.dtype)
        yield sample(draw.complex(count, 257, length), 512, 128, window=window)


ISTFT = Spec(
    name="istft",
    formula="y_i = sum_t v_m f_mt / e_i,  f = irfft of x",
    gradient="dx = m rfft of v_m h_(tH+m),  dv_m = sum_t (f_mt - 2 v_m y_i) h_i,  h = dy / e",
    manual=istft,
    native=torch.istft,
    overrides=(torch.Tensor.istft,),
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
