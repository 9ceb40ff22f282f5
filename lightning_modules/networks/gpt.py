"""A small GPT: tokens in, the next token's logits out."""

from collections import OrderedDict
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_modules.networks.initialization import Rule, initialize
from lightning_modules.networks.namespace import Namespace

Norm = Literal["pre", "post"]
"""Where a block's norms stand: before each sublayer, or after its addition to the shortcut."""


class CausalSelfAttention(torch.nn.Module):
    """Every position looks back at itself and the positions before it, in several heads.

    ``qkv`` makes queries, keys and values in one product; ``output`` mixes what the heads found:
    (N, T, width) to (N, T, width).

    Args:
        nn: Where the layers come from.
        width: Features of a position.
        heads: Heads, each of width / heads features.
        dropout: Probability of dropping an attention weight.
    """

    def __init__(self, nn: Namespace, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.attend = nn.functional.scaled_dot_product_attention
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x, (N, T, width)."""
        n, t, width = x.shape
        # (N, T, 3 width) to three of (N, heads, T, width / heads)
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        y = self.attend(q, k, v, dropout_p=dropout, is_causal=True)
        return self.output(y.transpose(1, 2).reshape(n, t, width))


class Block(torch.nn.Module):
    """Attention, then a small MLP at each position, each beside a shortcut and with a LayerNorm.

    With ``mlp(x) = down(gelu(up(x)))``, (N, T, width)::

        pre   x = x + attention(norm1(x)),  x = x + mlp(norm2(x))
        post  x = norm1(x + attention(x)),  x = norm2(x + mlp(x))

    Args:
        nn: Where the layers come from.
        width: Features of a position; the MLP is four times as wide.
        heads: Heads of the attention.
        dropout: Probability of dropping a number that is added to the shortcut.
        norm: "pre" or "post".
    """

    def __init__(
        self, nn: Namespace, width: int, heads: int, dropout: float, norm: Norm = "pre"
    ) -> None:
        super().__init__()
        self.norm = norm
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(nn, width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        layers: OrderedDict[str, torch.nn.Module] = OrderedDict(
            up=nn.Linear(width, 4 * width), gelu=nn.GELU(), down=nn.Linear(4 * width, width)
        )
        self.mlp = nn.Sequential(layers)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x, (N, T, width)."""
        if self.norm == "post":
            x = self.norm1(x + self.drop(self.attention(x)))
            return self.norm2(x + self.drop(self.mlp(x)))
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class GPT(torch.nn.Module):
    """Token and position embeddings, blocks, a LayerNorm and a read-out.

    As GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section
    2.3): norms before the sublayers, weights N(0, 0.02), those that end on the shortcut divided by
    sqrt(2 blocks). Unlike it, the read-out has weights of its own.

    With ``norm="post"`` the norms stand behind the additions instead, as in Vaswani et al. 2017,
    "Attention is all you need", section 3.1, and the last norm, which would then be the second in
    a row, is left out.

    The adds and views between layers are plain torch calls; under ``manual_bp.by_hand()`` they are
    by hand too.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        tokens: Size of the vocabulary.
        context: The longest sequence.
        width: Features of a position, a multiple of ``heads``.
        heads: Heads of each attention.
        blocks: How many blocks.
        dropout: 0 <= dropout < 1.
        norm: "pre" or "post".
        initialization: How the weights of the linear layers start, as :func:`initialize` has it;
            None for GPT-2's.

    Raises:
        ValueError: A size is not positive, width is no multiple of heads, dropout is out of range,
            norm or initialization is none of those known.
    """

    def __init__(
        self,
        nn: Namespace,
        tokens: int = 64,
        context: int = 32,
        width: int = 32,
        heads: int = 4,
        blocks: int = 2,
        dropout: float = 0.0,
        norm: Norm = "pre",
        initialization: Rule | float | None = None,
    ) -> None:
        if norm not in get_args(Norm):
            raise ValueError(f'norm must be "pre" or "post", got {norm!r}')
        if min(tokens, context, width, heads, blocks) < 1 or width % heads:
            raise ValueError(
                "tokens, context, width, heads and blocks must be positive and width a multiple "
                f"of heads, got {tokens}, {context}, {width}, {heads} and {blocks}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        super().__init__()
        self.context = context
        self.token = nn.Embedding(tokens, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(
            OrderedDict(
                (f"block{i}", Block(nn, width, heads, dropout, norm)) for i in range(1, blocks + 1)
            )
        )
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.output = nn.Linear(width, tokens, bias=False)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(p)
            elif "norm" not in name:
                ends = name.endswith(("attention.output.weight", "down.weight"))
                std = 0.02 / (2 * blocks) ** 0.5 if ends else 0.02
                torch.nn.init.normal_(p, std=std)
        if initialization is not None:
            initialize(self, initialization)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (N, T, tokens) of the tokens that follow those of (N, T), int64.

        Raises:
            ValueError: The sequence is longer than the context.
        """
        if tokens.shape[-1] > self.context:
            raise ValueError(
                f"a sequence of {tokens.shape[-1]} tokens is longer than the context, "
                f"{self.context}"
            )
        places = torch.arange(tokens.shape[-1], device=tokens.device)
        x = self.token(tokens) + self.position(places)
        return self.output(self.norm(self.blocks(x)))
