"""A deep multilayer perceptron with shortcuts, or the same without."""

from collections import OrderedDict

import torch
from torch import Tensor

from lightning_modules.networks.initialization import initialize
from lightning_modules.networks.namespace import Namespace


class Block(torch.nn.Sequential):
    """Two layers beside the identity (He et al. 2015, arXiv:1512.03385, figure 2).

    ``y = relu(bn(linear(relu(bn(linear(x))))) + x)``: (N, width) to (N, width). Without the
    shortcut the two layers are an ordinary part of a plain network.

    Args:
        nn: Where the layers come from.
        width: Of both layers.
        first: Number of the first layer in the whole network.
        shortcut: Whether x is added.
    """

    def __init__(self, nn: Namespace, width: int, first: int, shortcut: bool) -> None:
        children = _layer(nn, width, width, first)
        children.update(_layer(nn, width, width, first + 1))
        super().__init__(children)
        self.shortcut = shortcut

    def forward(self, input: Tensor) -> Tensor:
        """Apply the block to (N, width)."""
        *branch, activation = self
        y = input
        for child in branch:
            y = child(y)
        return activation(y + input if self.shortcut else y)


class ResidualMLP(torch.nn.Module):
    """A layer, blocks of two layers, a linear read-out: ``2 blocks + 2`` layers with weights.

    Layers are numbered through the network: ``stem.linear1``, ``stem.norm1``,
    ``stem.activation1``, ``block1.linear2``, ... Their weights are N(0, 2 / fan_in), their biases
    those of BatchNorm. The residual add is a plain torch call; under ``manual_bp.by_hand()`` it is
    by hand too.

    Args:
        nn: Where the layers come from: ``torch.nn`` or ``manual_bp.nn``.
        in_features: Numbers in one input; inputs of shape (N, ...) are flattened to
            (N, in_features).
        width: Of every hidden layer.
        blocks: How many blocks.
        out_features: Numbers in one output, the logits: (N, out_features).
        shortcut: Whether each block adds its input; False is the plain network with exactly the
            same parameters.

    Raises:
        ValueError: A width is not positive, or blocks is negative.
    """

    def __init__(
        self,
        nn: Namespace,
        in_features: int = 64,
        width: int = 32,
        blocks: int = 9,
        out_features: int = 10,
        shortcut: bool = True,
    ) -> None:
        if min(in_features, width, out_features) < 1 or blocks < 0:
            raise ValueError(
                "in_features, width and out_features must be positive and blocks not negative, "
                f"got {in_features}, {width}, {out_features} and {blocks}"
            )
        super().__init__()
        self.flatten = nn.Flatten()
        self.stem = nn.Sequential(_layer(nn, in_features, width, 1))
        for i in range(1, blocks + 1):
            self.add_module(f"block{i}", Block(nn, width, 2 * i, shortcut))
        self.output = nn.Linear(width, out_features)
        initialize(self, "kaiming")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the inputs x: the children, one after the other."""
        for child in self.children():
            x = child(x)
        return x


def _layer(
    nn: Namespace, fan_in: int, width: int, number: int
) -> "OrderedDict[str, torch.nn.Module]":
    # BatchNorm subtracts the mean, so a bias before it would be a parameter without effect.
    return OrderedDict(
        {
            f"linear{number}": nn.Linear(fan_in, width, bias=False),
            f"norm{number}": nn.BatchNorm1d(width),
            f"activation{number}": nn.ReLU(),
        }
    )
