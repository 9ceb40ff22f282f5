"""The steps of an LSTM where nobody records them: each writes where there is room already.

The formulas are those of :mod:`manual_bp.layers.lstm`, which has them once more as they are
derived, one tensor a symbol, for whoever differentiates or compiles them. Here

- forward, W x + b of all steps, ``a``, becomes the gates where it lies;
- backward, the slopes s of all steps become dL/da, and dL/dy becomes dL/dh. The gates i and f, both
  sigmoids and side by side, are treated as one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from manual_bp.recurrent import Steps, refreshed

__all__ = ["backward_in_buffers", "forward_in_buffers"]


def forward_in_buffers(
    a: Tensor, h: Tensor, c: Tensor, u: Tensor, project: Tensor | None, steps: Steps
) -> tuple[Tensor, ...]:
    """y, the last h and c; of all steps the gates, which ``a`` becomes, c and tanh(c)."""
    kept = c.shape[-1]
    y, cells = a.new_empty(*a.shape[:-1], h.shape[-1]), a.new_empty(*a.shape[:-1], kept)
    tanh_c, into = torch.empty_like(cells), u.t()
    whole, y_of, c_of, t_of = (steps.split(x) for x in (a, y, cells, tanh_c))
    i_of, f_of, g_of, o_of = (steps.split(x) for x in a.chunk(4, -1))
    i_and_f_of = steps.split(a[..., : 2 * kept])
    for t in steps:
        n = len(whole[t])
        whole[t].addmm_(h[:n], into)
        i_and_f_of[t].sigmoid_()
        torch.mul(i_of[t], g_of[t].tanh_(), out=c_of[t]).addcmul_(f_of[t], c[:n])
        torch.tanh(c_of[t], out=t_of[t])
        if project is None:
            torch.mul(t_of[t], o_of[t].sigmoid_(), out=y_of[t])
        else:
            torch.mm(t_of[t] * o_of[t].sigmoid_(), project.t(), out=y_of[t])
        h, c = refreshed(h, y_of[t]), refreshed(c, c_of[t])
    return y, h, c, a, cells, tanh_c


def backward_in_buffers(
    grad_y: Tensor,
    grad_h: Tensor,
    grad_c: Tensor,
    gates: Tensor,
    tanh_c: Tensor,
    before: Tensor,
    u: Tensor,
    project: Tensor | None,
    steps: Steps,
) -> tuple[Tensor, ...]:
    """dL/da of all steps, dL/dh_0, dL/dc_0 and dL/dh of all steps, of padded sequences."""
    i, f, g, o = gates.chunk(4, -1)
    m = o * tanh_c
    through = torch.addcmul(o, m, tanh_c, value=-1)  # o (1 - tanh(c)^2)
    slopes = torch.empty_like(gates)
    s_i, s_f, s_g, s_o = slopes.chunk(4, -1)
    two = slice(0, 2 * f.shape[-1])  # i and f at once: s (1 - s) is s - s^2
    torch.addcmul(gates[..., two], gates[..., two], gates[..., two], value=-1, out=slopes[..., two])
    s_i.mul_(g)
    s_f.mul_(before)
    torch.sub(i, torch.mul(i, g, out=s_g).mul_(g), out=s_g)
    torch.addcmul(m, m, o, value=-1, out=s_o)
    grads = grad_y.clone(memory_format=torch.contiguous_format)
    blocks = slopes.unflatten(-1, (4, -1))
    of_c, of_h, rows = blocks[..., :3, :].unbind(), s_o.unbind(), slopes.unbind()
    h_of, f_of, through_of = grads.unbind(), f.unbind(), through.unbind()
    grad_c, later = grad_c.clone(), None
    for t in reversed(steps):
        h = h_of[t].add_(grad_h) if later is None else h_of[t].addmm_(later, u)
        m = h if project is None else h @ project
        grad_c.addcmul_(m, through_of[t])
        of_c[t].mul_(grad_c.unsqueeze(-2))
        of_h[t].mul_(m)
        grad_c.mul_(f_of[t])
        later = rows[t]
    return slopes, torch.mm(rows[t], u), grad_c, grads
