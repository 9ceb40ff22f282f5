"""Attention: one query looks at the keys, and mixes their values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from manual_bp.explain.worked.example import TERMS, Example, Worked, name_at, strongest

__all__ = ["attention"]


def attention(example: Example) -> Worked:
    """One query: how the keys fit it, the weights, the mixture; and the blame of each weight."""
    q, k, v = (example.need(name) for name in ("query", "key", "value"))
    settings, y = example.operation.settings, example.y
    if settings.keys() - {"is_causal", "scale", "dropout_p"} or q.shape[:-2] != k.shape[:-2]:
        raise IndexError
    if settings.get("dropout_p") or example.given("attn_mask") is not None:
        raise IndexError
    *head, row, e = example.at
    if y.gradient is not None and q.gradient is not None and q.gradient.any():
        *head, row, _ = strongest(q.gradient)  # a query that has something to learn
        (e,) = strongest(y.gradient[(*head, row)])
    here, at = tuple(head), (*head, row, e)
    c = float(settings.get("scale") or 1 / math.sqrt(q.shape[-1]))
    seen = row + 1 if settings.get("is_causal") else k.shape[-2]
    keys, values = k.value[here][:seen], v.value[here][:seen]
    fit = c * keys @ q.value[(*here, row)]
    p = torch.softmax(fit, 0)
    lines = Worked(
        [
            f"c Q K^T = {_row(example, fit)}",
            f"P = softmax(c Q K^T) = {_row(example, p)}",
            f"{name_at(y.name, at)} = {example.products(p, values[:, e])} = "
            f"{example.bare(y.value[at])}",
        ]
    )
    if y.gradient is None or q.gradient is None:
        return lines
    g = y.gradient[(*here, row)]
    blame = values @ g  # dL/dP
    mean = (p * blame).sum()
    of_fit = p * (blame - mean)
    (i,) = strongest(q.gradient[(*here, row)])
    lines.backward += [
        f"dY V^T = {_row(example, blame)}",
        f"D = {example.products(p, blame)} = {example.bare(mean)}",
        f"dA = P (dY V^T - D) = {_row(example, of_fit)}",
        f"{name_at('dQ', (*head, row, i))} = {example.bare(c)} * "
        f"({example.products(of_fit, keys[:, i])}) = {example.bare(q.gradient[(*here, row, i)])}",
    ]
    return lines


def _row(example: Example, numbers: Tensor) -> str:
    inside = ", ".join(example.bare(v) for v in numbers[:TERMS])
    return f"({inside}{', ...' if len(numbers) > TERMS else ''})"
