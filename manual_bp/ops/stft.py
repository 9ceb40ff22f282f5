r"""The short-time Fourier transform: the spectra of overlapping pieces of a signal.

Indices: ``t`` piece (frame), one every H places; ``m`` place in a frame, of M; ``k`` frequency;
``i`` place of the signal. With w = e^(-2 pi i / M), a window v_m, and m_k and c as in rfft.py,
forward::

    y_kt = c sum_m v_m x_(tH+m) w^(km)

Backward. The spectra pass their gradient to the frames as in rfft.py. A place is in several frames
and blamed for all of them, so the frames are laid over each other again and add up; the window is
in all of them::

    f_mt    = c sum_k Re(dL/dy_kt w^(-km))
    dL/dx_i = sum_t v_m f_mt,   m = i - tH         (B, L)
    dL/dv_m = sum_t x_(tH+m) f_mt                  (M)

Allen (1977), "Short Term Spectral Analysis, Synthesis, and Modification by Discrete Fourier
Transform".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.function import Function, under_autocast
from manual_bp.layers.pad import pad
from manual_bp.ops.expand import reduced
from manual_bp.ops.rfft import weighted
from manual_bp.ops.view import view
from manual_bp.spec import Draw, Sample, Spec, sample

F = torch.nn.functional


def frames(x: Tensor, size: int, hop: int) -> Tensor:
    """A signal (..., L) as its frames, (..., M, T)."""
    return x.unfold(-1, size, hop).mT


def overlapped(x: Tensor, length: int, hop: int) -> Tensor:
    """Frames (..., M, T) added up to a signal of ``length``, (..., L)."""
    size, count = x.shape[-2:]
    used = size + (count - 1) * hop
    signal = F.fold(x, (1, used), (1, size), stride=(1, hop))
    return F.pad(signal.flatten(-3), [0, length - used])


def in_frame(window: Tensor | None, like: Tensor, win_length: int, size: int) -> Tensor:
    """The window in the middle of a frame, zeros around it, (M, 1)."""
    if window is None:
        window = torch.ones(win_length, dtype=like.dtype, device=like.device)
    before = (size - win_length) // 2
    return F.pad(window, [before, size - win_length - before]).unsqueeze(-1)


def of_window(grad: Tensor, window: Tensor, size: int) -> Tensor:
    """The gradient of a window from that of a whole frame, (..., M, T)."""
    (length,) = window.shape
    grad = grad.sum_to_size(size, 1).squeeze(-1).narrow(0, (size - length) // 2, length)
    return reduced(grad, window.shape, window.dtype)


class StftFunction(Function):
    """``x``: (L) or (B, L); ``window``: at most M, or None."""

    @staticmethod
    def forward(
        x: Tensor,
        window: Tensor | None,
        n_fft: int,
        hop_length: int | None,
        win_length: int | None,
        normalized: bool,
        onesided: bool | None,
        return_complex: bool | None,
    ) -> Tensor:
        if torch._C._are_functorch_transforms_active():  # torch's kernel has no rule for a batch
            v = in_frame(window, x, win_length or n_fft, n_fft)
            cut = frames(x, n_fft, hop_length or n_fft // 4) * v
            half = not cut.is_complex() if onesided is None else onesided
            transform = torch.fft.rfft if half else torch.fft.fft
            y = transform(cut, dim=-2, norm="ortho" if normalized else "backward")
            return torch.view_as_real(y) if return_complex is False else y
        return torch.stft(
            x,
            n_fft,
            hop_length,
            win_length,
            window,
            center=False,
            normalized=normalized,
            onesided=onesided,
            return_complex=return_complex,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, window, size, hop, win_length, normalized, _, _ = inputs
        ctx.size, ctx.hop, ctx.win_length = size, hop or size // 4, win_length or size
        ctx.norm = "ortho" if normalized else "forward"
        ctx.pairs = not output.is_complex()
        ctx.onesided = output.shape[-3 if ctx.pairs else -2] != size
        ctx.save_for_backward(x, window)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, window = ctx.saved_tensors
        size = ctx.size
        if ctx.pairs:
            grad_y = torch.complex(grad_y.select(-1, 0), grad_y.select(-1, 1))
        if ctx.onesided:
            grad = torch.fft.irfft(
                weighted(grad_y, 0.5, size, grad_y.dim() - 2), size, -2, ctx.norm
            )
        else:
            grad = torch.fft.ifft(grad_y, size, -2, ctx.norm)
        grad_x = grad_window = None
        if ctx.needs_input_grad[0]:
            v = in_frame(window, x, ctx.win_length, size).conj()
            grad_x = reduced(overlapped(grad * v, x.shape[-1], ctx.hop), x.shape, x.dtype)
        if ctx.needs_input_grad[1]:
            by_frame = frames(x, size, ctx.hop).conj() * grad
            grad_window = of_window(by_frame, window, size)
        return grad_x, grad_window, *[None] * 6


@under_autocast("float32", devices=("cpu",))
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """Spectra of overlapping frames, gradients by hand; as ``torch.stft``.

    Args:
        input: (L) or (B, L), real or complex
        n_fft: places in a frame, M
        hop_length: places from one frame to the next; M/4 by default
        win_length: of the window, at most M
        window: (win_length), ones by default
        center: whether frame t has place t H in its middle, the signal being padded for it
        pad_mode: as :func:`manual_bp.functional.pad` takes it
        normalized: over sqrt(M)
        onesided: half of the spectrum; by default where signal and window are real
        return_complex: False for pairs of real numbers
        align_to_window: where the first frame starts without ``center``, its window or its zeros

    Returns:
        (K, T) or (B, K, T), complex, or (..., 2).

    Raises:
        RuntimeError: From torch, where sizes and dtypes do not fit.
    """
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if center:
        lead = [1] * (3 - input.dim())
        rank = input.dim()
        input = pad(view(input, [*lead, *input.shape]), [n_fft // 2] * 2, pad_mode)
        input = view(input, input.shape[-rank:])
    elif align_to_window and 0 < (win_length or n_fft) < n_fft:
        before = (n_fft - (win_length or n_fft)) // 2
        input = pad(input, [before, n_fft - (win_length or n_fft) - before])
    return StftFunction.apply(
        input, window, n_fft, hop_length, win_length, normalized, onesided, return_complex
    )


def _samples(draw: Draw) -> Iterator[Sample]:
    v = draw.uniform(6, low=0.5, high=1.5).requires_grad_()
    yield sample(draw(2, 20), 6, None, None, v, return_complex=True)
    yield sample(
        draw(21), 8, 3, 6, v, False, normalized=True, return_complex=True, label="off the middle"
    )
    yield sample(draw.complex(2, 20), 5, 3, 5, v.detach()[:5], return_complex=True, label="complex")
    yield sample(
        draw(20),
        8,
        2,
        5,
        v.detach()[:5],
        False,
        return_complex=True,
        align_to_window=True,
        label="aligned",
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(20), 4, 2, 5, center=False, return_complex=True, label="too long a window")
    yield sample(draw(20), 4, align_to_window=True, label="aligned and in the middle")


def _bench(draw: Draw) -> Iterator[Sample]:
    for count, length in ((1, 16000), (16, 64000)):
        window = torch.hann_window(512, dtype=draw.dtype)
        yield sample(draw(count, length), 512, 128, window=window, return_complex=True)


STFT = Spec(
    name="stft",
    formula="y_kt = c sum_m v_m x_(tH+m) w^(km)",
    gradient="dx_i = sum_t v_m f_mt,  dv_m = sum_t x_(tH+m) f_mt,  f = irfft of dy / m",
    manual=stft,
    native=torch.stft,
    overrides=(torch.Tensor.stft,),
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
