r"""Attention: every query takes the average of the values, weighted by how well it fits the keys.

Indices: ``l`` query, ``s`` key and value, ``e`` feature of a query and a key, ``v`` feature of a
value; examples and heads in front of them are left out. c = scale, 1 / sqrt(E) by default.

Forward::

    A_ls = c sum_e Q_le K_se + mask_ls             (L, S)   how well they fit
    P_ls = exp(A_ls) / sum_s' exp(A_ls')           (L, S)   softmax over the keys
    Y_lv = sum_s P_ls V_sv                         (L, Ev)

where a bool mask stands for 0 where True and -inf where False, and ``is_causal`` for the mask that
lets a query see no later key. A query that sees no key at all gives 0.

Backward, from G = dL/dY (L, Ev)::

    dL/dV  = P^T G                                 (S, Ev)
    dL/dP  = G V^T                                 (L, S)
    dL/dA  = P (dL/dP - D),  D_l = sum_s P_ls dL/dP_ls      (softmax's, row by row)
    dL/dQ  = c dL/dA K                             (L, E)
    dL/dK  = c dL/dA^T Q                           (S, E)
    dL/dmask = dL/dA                               (L, S)

In a row of the softmax, dP_s'/dA_s = P_s' ([s' = s] - P_s): a score adds to its own weight and
takes from all others, as they sum to 1. Summed over s' with dL/dP_s', the first part is P_s dL/dP_s
and the second P_s times the same D for the whole row.

The row sums D need no product of (L, S) matrices, nor a second look at a row before its gradient
can be had, as the average over s can be taken first::

    D_l = sum_s P_ls sum_v G_lv V_sv = sum_v G_lv sum_s P_ls V_sv = sum_v G_lv Y_lv

So a few rows can be treated at a time, and for long sequences they are: P is then not kept, but
computed again block by block, in :mod:`manual_bp.attention_in_blocks`. Several queries' heads that
share one of K and V (``enable_gqa``) are stacked, as if they were one head with more queries.

With dropout m of P (zeros, and ones over 1 - p), Y = (P m) V and dL/dP = m (G V^T). D stays: the
same m is in dL/dP and in Y, on both ends of the line above.

Vaswani et al. (2017), "Attention Is All You Need", section 3.2.1; D: Dao et al. (2022),
"FlashAttention", appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manual_bp.attention_in_blocks import (
    backward_in_blocks,
    blocks_pay,
    forward_in_blocks,
    summed,
    times,
)
from manual_bp.function import Function, is_recorded, under_autocast, widened
from manual_bp.layers.dropout import draw_mask, masked
from manual_bp.ops.expand import expand
from manual_bp.spec import Draw, Sample, Spec, sample


class AttentionFunction(Function):
    """``q``: (..., heads, L, E), ``k``: (..., heads or fewer, S, E), ``v``: (..., S, Ev).

    ``mask``: bool or float, of a shape that broadcasts to (..., heads, L, S), or None.
    """

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, scale: float
    ) -> tuple[Tensor, ...]:
        dtype = q.dtype
        q, k, v, mask = widened(q, k, v, mask)
        if p == 0 and blocks_pay(q.shape[-2], k.shape[-2], causal) and not is_recorded():
            y, lse = forward_in_blocks(q, k, v, mask, causal, scale)
            return y.to(dtype), lse
        weights = _weights(q, k, mask, causal, scale)
        if p == 0:
            return times(weights, v).to(dtype), weights
        keep = draw_mask(weights, p, weights.shape)
        return times(masked(weights, keep, 1 / (1 - p)), v).to(dtype), weights, keep

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        q, k, v, mask, ctx.p, ctx.causal, ctx.scale = inputs
        ctx.in_blocks = output[1].shape[-1] < k.shape[-2]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, mask, *output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_y is None:
            return (None,) * 7
        saved = ctx.saved_tensors  # read once: checkpointing forgets what it has handed out
        q, k, v, mask, y, kept, *keep = widened(*saved)
        (g,) = widened(grad_y)
        if ctx.in_blocks and not is_recorded() and not ctx.needs_input_grad[3]:
            grads = backward_in_blocks(g, q, k, v, mask, y, kept, ctx.causal, ctx.scale)
        else:
            if is_recorded() or ctx.in_blocks:
                kept = _weights(q, k, mask, ctx.causal, ctx.scale)
            grads = _as_derived(ctx, g, q, k, v, mask, kept, *keep)
        found = (g if g is None else g.to(t.dtype) for g, t in zip(grads, saved[:4], strict=True))
        return *found, None, None, None


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """P."""
    root = math.sqrt(abs(scale))  # to both, as torch does: the products stay in range
    fit = times(q * math.copysign(root, scale), (k * root).mT)
    if causal:
        later = torch.ones(fit.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        fit = fit.masked_fill(later, -math.inf)
    if mask is None:
        return torch.softmax(fit, -1)
    if mask.dtype == torch.bool:
        blind = ~mask.any(-1, keepdim=True)  # a query that sees no key would give 0 / 0
        fit = fit.masked_fill(~(mask | blind), -math.inf)
    else:
        blind = (mask == -math.inf).all(-1, keepdim=True)
        fit = fit + mask.masked_fill(blind, 0)
    return torch.softmax(fit, -1).masked_fill(blind, 0)


def _as_derived(
    ctx: Any,
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    weights: Tensor,
    keep: Tensor | None = None,
) -> list[Tensor | None]:
    """The formulas as they stand above, with P as a whole."""
    grads: list[Tensor | None] = [None, None, None, None]
    if ctx.needs_input_grad[2]:
        dropped = weights if keep is None else masked(weights, keep, 1 / (1 - ctx.p))
        grads[2] = summed(dropped, g, v)
    if not any(ctx.needs_input_grad[i] for i in (0, 1, 3)):
        return grads
    grad_weights = times(g, v.mT)
    if keep is not None:
        grad_weights = masked(grad_weights, keep, 1 / (1 - ctx.p))
    # With all of P at hand D is taken from it: where a query sees one key alone, dL/dP - D is 0
    # and not the rounding error between two ways to the same sum.
    row_sums = (weights * grad_weights).sum(-1, keepdim=True)
    if is_recorded():
        grad_fit = weights * (grad_weights - row_sums)
    else:
        grad_fit = grad_weights.sub_(row_sums).mul_(weights)
    if ctx.needs_input_grad[0]:
        grads[0] = times(grad_fit, k) * ctx.scale
    if ctx.needs_input_grad[1]:
        grads[1] = summed(grad_fit, q, k) * ctx.scale
    if mask is not None and ctx.needs_input_grad[3]:
        grads[3] = grad_fit.sum_to_size(mask.shape)
    return grads


@under_autocast("lower")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention with its gradients by hand; as ``torch.nn.functional``'s of the same name.

    Args:
        query: (..., heads, L, E)
        key: (..., heads, S, E), or fewer heads with ``enable_gqa``
        value: (..., heads, S, Ev), likewise
        attn_mask: bool, True where a query may look, or float, added to the fit; a shape that
            broadcasts to (..., heads, L, S)
        dropout_p: probability of a weight to become 0
        is_causal: let query l see the keys up to the l-th
        scale: c; 1 / sqrt(E) where None
        enable_gqa: let several heads of ``query`` share one of ``key`` and ``value``

    Returns:
        (..., heads, L, Ev) in the dtype of ``query``.

    Raises:
        RuntimeError: From torch, where shapes or dtypes do not fit or both masks are given.
    """
    batch = _common_batch(query, key, value, attn_mask, is_causal, dropout_p, enable_gqa)
    if batch is None:  # torch tells why
        return torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask,
            dropout_p,
            is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
    own = 3 if enable_gqa else 2
    query, key, value = (
        t if t.shape[:-own] == batch else expand(t, (*batch, *t.shape[-own:]))
        for t in (query, key, value)
    )
    c = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return AttentionFunction.apply(query, key, value, attn_mask, dropout_p, is_causal, c)[0]


def _common_batch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    p: float,
    grouped: bool,
) -> torch.Size | None:
    """The axes in front that all have in common, or None where something does not fit."""
    own = 3 if grouped else 2
    if min(t.dim() for t in (q, k, v)) < own or q.dtype != k.dtype or q.dtype != v.dtype:
        return None
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or not 0 <= p < 1:
        return None
    if q.shape[-1] == 0 or (
        mask is not None and (causal or mask.dtype not in (torch.bool, q.dtype))
    ):
        return None
    try:
        batch = torch.broadcast_shapes(*(t.shape[:-own] for t in (q, k, v)))
        if mask is not None:
            heads = q.shape[-3:-2] if grouped else ()
            whole = (*batch, *heads, q.shape[-2], k.shape[-2])
            if torch.broadcast_shapes(whole, mask.shape) != whole:
                return None
    except RuntimeError:
        return None
    if grouped and (k.shape[-3] != v.shape[-3] or q.shape[-3] % k.shape[-3]):
        return None
    return batch


def _samples(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(2, 3, 4, 5), draw(2, 3, 6, 5), draw(2, 3, 6, 2))
    sees = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.bool, device=draw.device)
    yield sample(draw(2, 3, 4), draw(2, 3, 4), draw(2, 3, 4), sees, label="bool mask")
    yield sample(draw(3, 4), draw(3, 4), draw(3, 4), draw(3, 3), scale=0.3, label="float mask")
    yield sample(draw(2, 4, 3), draw(2, 5, 3), draw(2, 5, 3), is_causal=True, label="causal")
    yield sample(
        *(draw(2, 4, 3, 5), draw(2, 2, 3, 5), draw(2, 2, 3, 2)),
        *(None, 0.0, True),
        enable_gqa=True,
        label="grouped queries",
    )


def _refused(draw: Draw) -> Iterator[Sample]:
    q, k = draw(2, 3, 4), draw(2, 5, 4)
    yield sample(q, k, draw(2, 6, 4), label="keys and values differ")
    yield sample(q, k, k, draw(3, 5), is_causal=True, label="two masks")


def _bench(draw: Draw) -> Iterator[Sample]:
    for n, t in ((8, 64), (4, 256), (1, 1024)):
        q, k, v = (draw(n, 4, t, 32) for _ in range(3))
        yield sample(q, k, v, is_causal=True, label=f"causal {n}x4x{t}x32")


SPEC = Spec(
    name="scaled_dot_product_attention",
    formula="Y = P V,  P = softmax(c Q K^T + mask)",
    gradient="dV = P^T dY,  dA = P (dY V^T - D),  D = rowsum(dY Y),  dQ = c dA K,  dK = c dA^T Q",
    manual=scaled_dot_product_attention,
    native=torch.nn.functional.scaled_dot_product_attention,
    samples=_samples,
    refused=_refused,
    bench=_bench,
)
