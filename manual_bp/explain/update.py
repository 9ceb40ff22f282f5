"""The optimizer's step on a copy, and its rule in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Stepped", "rule", "stepped"]

# theta is the parameter, g its gradient; the numbers of the group are put in place of the names.
_RULES = {
    "SGD": "theta = theta - lr g",
    "Adagrad": "s = s + g^2,  theta = theta - lr g / (sqrt s + eps)",
    "RMSprop": "v = alpha v + (1 - alpha) g^2,  theta = theta - lr g / (sqrt v + eps)",
    "Adam": (
        "m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  "
        "theta = theta - lr m^ / (sqrt v^ + eps)"
    ),
}
_RULES["AdamW"] = _RULES["Adam"] + ",  after theta = theta - lr lam theta"


@dataclass
class Stepped:
    """What an optimizer did to a copy of the model.

    Attributes:
        optimizer: That stepped; None where there is none.
        name: Its class.
        before: Every parameter as it was.
    """

    optimizer: Optimizer | None
    name: str
    before: dict[str, Tensor]


def stepped(model: nn.Module, optimizer: Any, manual: bool) -> Stepped:
    """Let the optimizer step.

    Args:
        model: A copy that has its gradients.
        optimizer: The copy of the user's, a function that makes one, or None.
        manual: False: a rule by hand is replaced by the one of ``torch.optim`` that it mirrors.

    Raises:
        TypeError: Where the function makes no optimizer.
        ValueError: Where the optimizer holds none of the model's parameters, or cannot step.
    """
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    if optimizer is None:
        return Stepped(None, "", before)
    if not isinstance(optimizer, Optimizer):
        optimizer = optimizer(list(model.parameters()))
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer(parameters) has to make an optimizer, got {type(optimizer).__name__}"
            )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise ValueError("the optimizer holds none of the model's parameters")
    name = type(optimizer).__name__
    if not manual:
        optimizer = _torchs_own(optimizer)
    try:
        optimizer.step()
    except TypeError as error:
        raise ValueError(f"{name} cannot take a single step: {error}") from error
    return Stepped(optimizer, name, before)


def _torchs_own(optimizer: Optimizer) -> Optimizer:
    """``torch.optim``'s optimizer of the same name, in the same state."""
    name = type(optimizer).__name__
    if not type(optimizer).__module__.startswith("manual_bp.") or not hasattr(torch.optim, name):
        return optimizer
    groups = [{"params": group["params"]} for group in optimizer.param_groups]
    counterpart: Optimizer = getattr(torch.optim, name)(groups, lr=0.1)
    counterpart.load_state_dict(optimizer.state_dict())
    return counterpart


def rule(optimizer: Optimizer | None, parameter: Tensor) -> str:
    """The optimizer's rule for a parameter in one line, with its learning rate; "" for others."""
    if optimizer is None:
        return ""
    for group in optimizer.param_groups:
        if any(p is parameter for p in group["params"]):
            return _RULES.get(type(optimizer).__name__, "")
    return ""
