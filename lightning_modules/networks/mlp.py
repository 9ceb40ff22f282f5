"""A multilayer perceptron."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lightning_modules.networks.initialization import Rule, initialize
from lightning_modules.networks.namespace import Namespace, layer


class MLP(torch.nn.Module):
    """Linear, normalization, activation, dropout; once per hidden layer, then a linear read-out.

    A linear layer before BatchNorm1d has no bias.

    The children are named after what they are and where (``linear1``, ``norm1``, ``activation1``,
    ..., ``output``), so that a plot of their gradients can be read.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        in_features: Numbers in one input; inputs of shape (N, ...) are flattened to
            (N, in_features).
        hidden: Width of each hidden layer; empty for a linear model.
        out_features: Numbers in one output, the logits: (N, out_features).
        activation: A layer of ``nn`` without required arguments: "ReLU", "GELU", "Tanh", ...
        normalization: A layer of ``nn`` that takes the width: "BatchNorm1d", "LayerNorm" or None.
        dropout: Probability of dropping a hidden value, 0 <= dropout < 1.
        initialization: How the weights start, as :func:`initialize` has it; None for torch's own.

    Raises:
        ValueError: A width is not positive, dropout is out of range, ``nn`` lacks a layer,
            or the initialization is none of those known.
    """

    def __init__(
        self,
        nn: Namespace,
        in_features: int = 64,
        hidden: Sequence[int] = (64,),
        out_features: int = 10,
        activation: str = "ReLU",
        normalization: str | None = None,
        dropout: float = 0.0,
        initialization: Rule | float | None = None,
    ) -> None:
        widths = [in_features, *hidden]
        if min(*widths, out_features) < 1:
            raise ValueError(
                "in_features, hidden and out_features must be positive, "
                f"got {in_features}, {tuple(hidden)} and {out_features}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        # BatchNorm subtracts the mean, so a bias before it would be a parameter without effect; its
        # gradient is rounding noise, which Adam divides by itself into steps of random sign.
        bias = normalization != "BatchNorm1d"
        children: OrderedDict[str, torch.nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (fan_in, width) in enumerate(pairwise(widths), start=1):
            children[f"linear{i}"] = nn.Linear(fan_in, width, bias=bias)
            if normalization is not None:
                children[f"norm{i}"] = layer(nn, normalization)(width)
            children[f"activation{i}"] = layer(nn, activation)()
            if dropout:
                children[f"dropout{i}"] = nn.Dropout(dropout)
        children["output"] = nn.Linear(widths[-1], out_features)
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        if initialization is not None:
            initialize(self, initialization)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the inputs x: the children, one after the other."""
        for child in self.children():
            x = child(x)
        return x
