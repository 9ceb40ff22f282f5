r"""Multi-head attention: several attentions side by side, each on its own part of the features.

Indices: ``l`` query, ``s`` key, ``n`` example, ``h`` head of H, ``e`` feature of E; each head has
d = E / H features.

Forward::

    q = query W_q^T + b_q   (L, N, E)     k, v likewise from key and value   (S, N, E)
    q, k, v -> (N, H, L or S, d): the features of each head on their own
    P_h = softmax(q_h k_h^T / sqrt(d) + mask),  Y_h = P_h v_h          (N, H, L, d)
    y = (Y_1, ..., Y_H) W_o^T + b_o                                    (L, N, E)

and, where they are asked for, the weights P, or their mean over the heads.

Backward. Every line is a layer or an operation of its own, so there is no new formula: the
gradient passes W_o (:mod:`manual_bp.layers.linear`), each head's attention
(:mod:`manual_bp.layers.scaled_dot_product_attention`) and the three projections. In
self-attention ``query``, ``key`` and ``value`` are one tensor; then the three projections are
one, with W = (W_q; W_k; W_v) stacked, and one product gives what the obvious way adds up::

    dL/dx = (dL/dq, dL/dk, dL/dv) W = dL/dq W_q + dL/dk W_k + dL/dv W_v

Vaswani et al. (2017), "Attention Is All You Need", section 3.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import (  # type: ignore[attr-defined]
    _canonical_mask,
    _mha_shape_check,
    _none_or_dtype,
)

from manual_bp.composed import under_by_hand
from manual_bp.layers.dropout import dropout
from manual_bp.layers.linear import linear
from manual_bp.layers.pad import pad
from manual_bp.layers.scaled_dot_product_attention import scaled_dot_product_attention
from manual_bp.layers.softmax import softmax
from manual_bp.ops.add import add
from manual_bp.ops.cat import cat
from manual_bp.ops.expand import expand
from manual_bp.ops.matmul import matmul
from manual_bp.ops.mul import mul
from manual_bp.ops.permute import permute, transpose
from manual_bp.ops.split import chunk
from manual_bp.ops.sum import mean
from manual_bp.ops.view import reshape, squeeze, unsqueeze
from manual_bp.spec import Draw, Sample, Spec, sample
from manual_bp.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention, its gradients by hand; as in ``torch.nn.functional``.

    Args:
        query: (L, N, E) or (L, E)
        key: (S, N, E), or (S, N, Ek) with separate weights; or without N
        value: (S, N, E), or (S, N, Ev) with separate weights; or without N
        embed_dim_to_check: E
        num_heads: H, a divisor of E
        in_proj_weight: (3 E, E), W_q, W_k and W_v stacked; or None
        in_proj_bias: (3 E) or None
        bias_k: (1, 1, E), one more key for all; or None
        bias_v: (1, 1, E), its value
        add_zero_attn: one more key and value, of zeros
        dropout_p: probability of a weight to become 0
        out_proj_weight: W_o, (E, E)
        out_proj_bias: (E) or None
        training: whether weights are dropped
        key_padding_mask: (N, S) or (S), bool, True at a key that nobody sees; or float, added
        need_weights: whether to return P
        attn_mask: (L, S) or (N H, L, S), bool, True where a query may not look; or float, added
        use_separate_proj_weight: take the next three instead of ``in_proj_weight``
        q_proj_weight: (E, E)
        k_proj_weight: (E, Ek)
        v_proj_weight: (E, Ev)
        static_k: (N H, S, d), in place of k; or None
        static_v: (N H, S, d), in place of v; or None
        average_attn_weights: return the mean of P over the heads
        is_causal: a hint that ``attn_mask`` is the causal one

    Returns:
        (L, N, E) or (L, E), and P: (N, L, S) or, not averaged, (N, H, L, S); or None.

    Raises:
        AssertionError: From torch, with the shapes, where they do not fit.
    """
    batched = _mha_shape_check(query, key, value, key_padding_mask, attn_mask, num_heads)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights = separate if use_separate_proj_weight else (in_proj_weight,)
    _check(query, key, value, embed_dim_to_check, num_heads, weights, (bias_k, bias_v))
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    padding = _canonical_mask(
        key_padding_mask, "key_padding_mask", _none_or_dtype(attn_mask), "attn_mask", query.dtype
    )
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None
    else:
        attn_mask = _canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, False)
        is_causal = False
    q, k, v = _projected(query, key, value, weights, in_proj_bias)
    if not batched:
        q, k, v = (unsqueeze(t, 1) for t in (q, k, v))
        padding = None if padding is None else unsqueeze(padding, 0)
    n, e = q.shape[1:]
    extra = 0
    if bias_k is not None and bias_v is not None:
        k, v = (cat([t, expand(b, (1, n, e))]) for t, b in ((k, bias_k), (v, bias_v)))
        extra += 1
    q, k, v = (_heads(t, num_heads) for t in (q, k, v))
    k = k if static_k is None else reshape(static_k, (n, num_heads, *static_k.shape[1:]))
    v = v if static_v is None else reshape(static_v, (n, num_heads, *static_v.shape[1:]))
    if add_zero_attn:
        zeros = q.new_zeros(n, num_heads, 1, q.shape[-1])
        k, v = (cat([t, zeros], 2) for t in (k, v))
        extra += 1
    mask = _one_mask(attn_mask, padding, extra, n, num_heads)

    p = dropout_p if training else 0.0
    shown = None
    if need_weights:
        q = mul(q, math.sqrt(1 / q.shape[-1]))
        fit = matmul(q, transpose(k, -2, -1))
        found = softmax(fit if mask is None else add(mask, fit), -1)
        found = dropout(found, p) if p > 0 else found
        y = matmul(found, v)
        shown = mean(found, 1) if average_attn_weights else found
        shown = shown if batched else squeeze(shown, 0)
    else:
        y = scaled_dot_product_attention(q, k, v, mask, p, is_causal)
    y = reshape(permute(y, 2, 0, 1, 3), (-1, n, e))
    y = linear(y, out_proj_weight, out_proj_bias)
    return y if batched else squeeze(y, 1), shown


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    weights: Any,
    biases: Any,
) -> None:
    """Refuse what torch refuses, in its words."""
    e, (k, v) = query.shape[-1], (key.shape, value.shape)
    for fails, message in (
        (
            e != embed_dim_to_check,
            f"was expecting embedding dimension of {embed_dim_to_check}, but got {e}",
        ),
        (e % num_heads, f"embed_dim {e} not divisible by num_heads {num_heads}"),
        (len(weights) == 1 and k != v, f"key shape {k} does not match value shape {v}"),
        (
            k[:-1] != v[:-1],
            f"key's sequence and batch dims {k[:2]} do not match value's {v[:2]}",
        ),
        (
            any(w is None for w in weights),
            "a weight of the projections of query, key and value is None",
        ),
        ((biases[0] is None) != (biases[1] is None), "bias_k and bias_v go together"),
    ):
        if fails:
            raise AssertionError(message)


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weights: Any, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """q, k and v; in one product for all that come from the same tensor."""
    if len(weights) == 1 and query is key is value:
        return chunk(linear(query, weights[0], bias), 3, -1)
    weights = chunk(weights[0], 3) if len(weights) == 1 else weights
    biases = (None,) * 3 if bias is None else chunk(bias, 3)
    return tuple(map(linear, (query, key, value), weights, biases))


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """(S, N, E) to (N, H, S, d)."""
    s, n, e = x.shape
    return permute(reshape(x, (s, n, num_heads, e // num_heads)), 1, 2, 0, 3)


def _one_mask(
    attn_mask: Tensor | None, padding: Tensor | None, extra: int, n: int, num_heads: int
) -> Tensor | None:
    """Both masks in one that broadcasts to (N, H, L, S); keys that were added are seen by all."""
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = reshape(attn_mask, (n, num_heads, *attn_mask.shape[1:]))
    if padding is not None:
        padding = reshape(padding, (n, 1, 1, -1))
    masks = [m if extra == 0 else pad(m, [0, extra]) for m in (attn_mask, padding) if m is not None]
    return None if not masks else masks[0] if len(masks) == 1 else add(*masks)


class MultiheadAttention(torch.nn.MultiheadAttention):
    """``torch.nn.MultiheadAttention`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Map query, key and value to y and the weights; never by torch's fused path."""
        return under_by_hand(super().forward, *args, **kwargs)


def _samples(draw: Draw) -> Iterator[Sample]:
    e, h = 4, 2
    own = draw(3 * e, e), None, None, None, False, 0.0, draw(e, e), draw(e)
    q, k, v = draw(3, 2, e), draw(5, 2, e), draw(5, 2, e)
    yield sample(q, k, v, e, h, *own)
    hidden = torch.tensor([[0, 0, 1, 0, 1], [0, 0, 0, 0, 1]], dtype=torch.bool, device=q.device)
    sees = torch.ones(3, 5, dtype=torch.bool, device=q.device).triu(2)
    extra = draw(3 * e, e), None, draw(1, 1, e), draw(1, 1, e), True, 0.0, draw(e, e), None
    yield sample(
        *(q, k, v, e, h, *extra),
        key_padding_mask=hidden,
        attn_mask=sees,
        average_attn_weights=False,
        label="masks, one key more, a zero key, weights of each head",
    )
    yield sample(draw(3, e), draw(5, e), draw(5, e), e, h, *own, label="no batch")


def _refused(draw: Draw) -> Iterator[Sample]:
    own = draw(12, 4), draw(12), None, None, False, 0.0, draw(4, 4), draw(4)
    yield sample(draw(3, 2, 4), draw(5, 2, 4), draw(6, 2, 4), 4, 2, *own, label="values differ")
    yield sample(draw(3, 2, 4), draw(5, 2, 4), draw(5, 2, 4), 4, 3, *own, label="3 heads of 4")


def _modules(draw: Draw) -> Iterator[Sample]:
    x = draw(3, 2, 4)
    yield sample((x, x, x), 4, 2, dropout=0.3)
    yield sample(
        (draw(2, 3, 4), draw(2, 5, 3), draw(2, 5, 6)),
        *(4, 2),
        kdim=3,
        vdim=6,
        batch_first=True,
        bias=False,
    )
    yield sample((draw(3, 4), draw(5, 4), draw(5, 4)), 4, 2, add_bias_kv=True, add_zero_attn=True)


def _encoder_layers(draw: Draw) -> Iterator[Sample]:
    yield sample(draw(3, 2, 4), 4, 2, 5, 0.1)
    yield sample(draw(2, 3, 4), 4, 2, 5, 0.0, "gelu", batch_first=True, norm_first=True)


def _decoder_layers(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(3, 2, 4), draw(5, 2, 4)), 4, 2, 5, 0.1)
    yield sample((draw(3, 2, 4), draw(5, 2, 4)), 4, 2, 5, 0.0, "gelu", norm_first=True, bias=False)


def _encoders(draw: Draw) -> Iterator[Sample]:
    layer = torch.nn.TransformerEncoderLayer(4, 2, 5, 0.0, batch_first=True)
    yield sample(draw(2, 3, 4), layer, 2, torch.nn.LayerNorm(4))


def _decoders(draw: Draw) -> Iterator[Sample]:
    layer = torch.nn.TransformerDecoderLayer(4, 2, 5, 0.0)
    yield sample((draw(3, 2, 4), draw(5, 2, 4)), layer, 2)


def _transformers(draw: Draw) -> Iterator[Sample]:
    yield sample((draw(2, 5, 4), draw(2, 3, 4)), 4, 2, 1, 1, 5, 0.0, batch_first=True)


def _bench(draw: Draw) -> Iterator[Sample]:
    for n, t, e in ((8, 64, 64), (8, 128, 256)):
        x, scale = draw(t, n, e), e**-0.5
        weights = draw(3 * e, e, scale=scale), draw(3 * e), draw(e, e, scale=scale), draw(e)
        yield sample(
            *(x, x, x, e, 4, *weights[:2], None, None, False, 0.0, *weights[2:]),
            need_weights=False,
        )


SPEC = Spec(
    name="multi_head_attention",
    formula="y = (P_1 V_1, ..., P_H V_H) W_o^T + b_o",
    gradient="that of its parts: three projections, attention in each head, a projection",
    manual=multi_head_attention_forward,
    native=torch.nn.functional.multi_head_attention_forward,
    samples=_samples,
    refused=_refused,
    modules={
        MultiheadAttention: _modules,
        Transformer: _transformers,
        TransformerDecoder: _decoders,
        TransformerDecoderLayer: _decoder_layers,
        TransformerEncoder: _encoders,
        TransformerEncoderLayer: _encoder_layers,
    },
    bench=_bench,
)
