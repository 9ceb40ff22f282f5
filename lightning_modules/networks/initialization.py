"""How weights start: the scale of the first numbers."""

import math
from typing import Literal

import torch
from torch import nn

Rule = Literal["standard", "xavier", "kaiming", "zeros"]


def initialize(module: nn.Module, rule: Rule | float) -> None:
    """Draw the weights of all linear and convolution layers anew; their biases become 0.

    Args:
        module: Its layers of class Linear, Conv1d, Conv2d and Conv3d are changed in place.
        rule: With ``n`` the fan-in and ``m`` the fan-out of a layer,

            - "standard": uniform in ±1/sqrt(n), variance 1/(3n), which was usual before
              (Glorot & Bengio 2010, equation 1), and is torch's own for linear layers;
            - "xavier": uniform with variance 2/(n + m) (the same, equation 16);
            - "kaiming": normal with variance 2/n (He et al. 2015, equation 10);
            - "zeros";
            - a number: normal with that standard deviation.

    Raises:
        ValueError: The rule is none of these, or the number is negative or not finite.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            _draw(layer.weight, rule)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _draw(weight: torch.Tensor, rule: Rule | float) -> None:
    if isinstance(rule, (int, float)):
        if not (math.isfinite(rule) and rule >= 0):
            raise ValueError(f"initialization: a standard deviation cannot be {rule}")
        nn.init.normal_(weight, std=rule)
    elif rule == "standard":
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    elif rule == "xavier":
        nn.init.xavier_uniform_(weight)
    elif rule == "kaiming":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    elif rule == "zeros":
        nn.init.zeros_(weight)
    else:
        raise ValueError(
            'initialization must be "standard", "xavier", "kaiming", "zeros" or a number, '
            f"got {rule!r}"
        )
