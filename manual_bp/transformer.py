r"""Transformer: layers of attention and of two linear layers, each added to what it was given.

One encoder layer, with LN for LayerNorm, MHA for multi-head attention and a = relu or gelu::

    norm_first = False:   x := LN1(x + MHA(x, x, x))     x := LN2(x + W2 a(W1 x + b1) + b2)
    norm_first = True:    x := x + MHA(LN1 x)            x := x + W2 a(W1 LN2 x + b1) + b2

A decoder layer has a second MHA between the two, whose keys and values come from the encoder. The
gradient of a sum goes to both of its terms, so every layer passes on what it was given plus what
its own parts make of it; the parts are in :mod:`manual_bp.layers`. Nothing else is computed here:
the forward pass is torch's own, on gradients by hand, and never takes its fused path, which has
no gradient.

Vaswani et al. (2017), "Attention Is All You Need", section 3.1; norm_first: Xiong et al. (2020),
"On Layer Normalization in the Transformer Architecture", section 3.
"""

from __future__ import annotations

from typing import Any

import torch

from manual_bp.composed import under_by_hand

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


class TransformerEncoderLayer(torch.nn.TransformerEncoderLayer):
    """``torch.nn.TransformerEncoderLayer`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Map (S, N, E), (N, S, E) with ``batch_first`` or (S, E) to the same shape."""
        return under_by_hand(super().forward, *args, **kwargs)


class TransformerDecoderLayer(torch.nn.TransformerDecoderLayer):
    """``torch.nn.TransformerDecoderLayer`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Map a target (T, N, E) and a memory (S, N, E) to the shape of the target."""
        return under_by_hand(super().forward, *args, **kwargs)


class TransformerEncoder(torch.nn.TransformerEncoder):
    """``torch.nn.TransformerEncoder`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layers, one after the other, and the norm, if any."""
        return under_by_hand(super().forward, *args, **kwargs)


class TransformerDecoder(torch.nn.TransformerDecoder):
    """``torch.nn.TransformerDecoder`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layers, each on the memory too, and the norm, if any."""
        return under_by_hand(super().forward, *args, **kwargs)


class Transformer(torch.nn.Transformer):
    """``torch.nn.Transformer`` whose gradients are by hand."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Map a source (S, N, E) and a target (T, N, E) to the shape of the target."""
        return under_by_hand(super().forward, *args, **kwargs)
