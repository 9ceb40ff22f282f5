"""Attention for long sequences: some queries at a time, so that P is never there as a whole.

In the letters of :mod:`manual_bp.layers.scaled_dot_product_attention`, where the gradients are
derived. A row of P is computed again from the log-sum-exp of its row of A, which is all that is
kept of it, and D_l from what is at hand without it::

    P_ls = exp(A_ls - lse_l),    D_l = sum_v G_lv Y_lv

The memory is L numbers instead of L S. With ``is_causal`` a block of queries stops at its own last
key, which saves half of the products.

Several heads of Q that share one of K and V are stacked, as if they were one head with more
queries; what they give to K and V adds up in the product.

Dao et al. (2022), "FlashAttention", section 3.1 and appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["backward_in_blocks", "blocks_pay", "forward_in_blocks", "summed", "times"]

BLOCK = 128  # queries at a time
KEPT = 256 * 256  # elements of P up to which all are kept, rather than computed again


def blocks_pay(queries: int, keys: int, causal: bool) -> bool:
    """Whether P is so large that its rows are better computed again than kept."""
    return queries * keys > (BLOCK * BLOCK if causal else KEPT)


def times(a: Tensor, b: Tensor) -> Tensor:
    """``a b`` for (..., heads, L, X) and (..., heads or fewer, X, Z)."""
    if a.dim() < 3 or a.shape[-3] == b.shape[-3]:
        return a @ b
    together = a.unflatten(-3, (b.shape[-3], -1))  # (..., fewer, group, L, X)
    return (together.flatten(-3, -2) @ b).unflatten(-2, together.shape[-3:-1]).flatten(-4, -3)


def summed(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """``a^T b``, summed over the heads that share one of ``like``."""
    if a.dim() > 2 and a.shape[-3] != like.shape[-3]:
        heads = (like.shape[-3], -1)
        a, b = (t.unflatten(-3, heads).flatten(-3, -2) for t in (a, b))
    return a.mT @ b


def _fit_of_rows(
    q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float, start: int
) -> tuple[Tensor, int, int]:
    """A for a block of queries; where the block ends, and the keys that it sees."""
    stop = min(start + BLOCK, q.shape[-2])
    seen = min(stop, k.shape[-2]) if causal else k.shape[-2]
    fit = times(q[..., start:stop, :] * scale, k[..., :seen, :].mT)
    if causal and start < seen:
        later = torch.ones(stop - start, seen - start, dtype=torch.bool, device=q.device).triu(1)
        fit[..., start:].masked_fill_(later, -math.inf)
    elif mask is not None:
        mask = mask if mask.dim() < 2 or mask.shape[-2] == 1 else mask[..., start:stop, :]
        fit = fit.masked_fill_(~mask, -math.inf) if mask.dtype == torch.bool else fit.add_(mask)
    return fit, stop, seen


def forward_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Y, and the log-sum-exp of each row of A."""
    if mask is None and q.device.type == "cpu" and q.dim() == 4 and q.shape[:2] == k.shape[:2]:
        if q.shape[-1] == v.shape[-1]:  # torch has these very lines in one kernel
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            y, lse = fused(q, k, v, 0.0, causal, scale=scale)
            return y, lse.unsqueeze(-1)
    y, lse = q.new_empty(*q.shape[:-1], v.shape[-1]), q.new_empty(*q.shape[:-1], 1)
    for start in range(0, q.shape[-2], BLOCK):
        fit, stop, seen = _fit_of_rows(q, k, mask, causal, scale, start)
        top = fit.amax(-1, keepdim=True).clamp_(min=torch.finfo(q.dtype).min)
        total = fit.sub_(top).exp_().sum(-1, keepdim=True).clamp_(min=1)  # 0: sees no key
        y[..., start:stop, :] = times(fit, v[..., :seen, :]).div_(total)
        lse[..., start:stop, :] = total.log_().add_(top)
    return y, lse


def backward_in_blocks(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    y: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
) -> list[Tensor | None]:
    """The formulas for some queries at a time, with their rows of P computed again."""
    grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    row_sums = (g * y).sum(-1, keepdim=True)
    for start in range(0, q.shape[-2], BLOCK):
        fit, stop, seen = _fit_of_rows(q, k, mask, causal, scale, start)
        weights = fit.sub_(lse[..., start:stop, :]).exp_()
        rows, keys, values = g[..., start:stop, :], k[..., :seen, :], v[..., :seen, :]
        grad_v[..., :seen, :] += summed(weights, rows, v)
        grad_fit = times(rows, values.mT).sub_(row_sums[..., start:stop, :]).mul_(weights)
        grad_q[..., start:stop, :] = times(grad_fit, keys)
        grad_k[..., :seen, :] += summed(grad_fit, q[..., start:stop, :], k)
    return [grad_q.mul_(scale), grad_k.mul_(scale), grad_v, None]
