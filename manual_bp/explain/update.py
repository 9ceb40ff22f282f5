"""The optimizer's step on a copy, and its rule in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Stepped", "rule", "stepped"]

# theta is the parameter, g its gradient.
_ADAM = (
    "m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  "
    "theta = theta - lr m^ / (sqrt(v^) + eps)"
)
_RULES = {
    "SGD": "theta = theta - lr g",
    "Adagrad": "s = s + g^2,  theta = theta - lr g / (sqrt(s) + eps)",
    "RMSprop": "v = alpha v + (1 - alpha) g^2,  theta = theta - lr g / (sqrt(v) + eps)",
    "Adam": _ADAM,
    "AdamW": f"theta = theta - lr lam theta,  {_ADAM}",
}
# How torch calls the numbers of a rule, and the letters that the rules have for them.
_LETTERS = {"momentum": "mu", "weight_decay": "lam", "dampening": "tau"}


@dataclass
class Stepped:
    """What an optimizer did to a copy of the model.

    Attributes:
        optimizer: That stepped; None where there is none.
        name: Its class.
        before: Every parameter as it was.
        after: Every parameter as it is now; empty without an optimizer.
    """

    optimizer: Optimizer | None
    name: str
    before: dict[str, Tensor]
    after: dict[str, Tensor]


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
        return Stepped(None, "", before, {})
    if not isinstance(optimizer, Optimizer):
        optimizer = optimizer(list(model.parameters()))
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer(parameters) has to make an optimizer, got {type(optimizer).__name__}"
            )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise ValueError("the optimizer holds none of the model's parameters")
    kind = type(optimizer).__name__
    if not manual:
        optimizer = _torchs_own(optimizer)
    try:
        optimizer.step()
    except TypeError as error:
        raise ValueError(f"{kind} cannot take a single step: {error}") from error
    after = {name: p.detach() for name, p in model.named_parameters()}
    return Stepped(optimizer, kind, before, after)


def _torchs_own(optimizer: Optimizer) -> Optimizer:
    """``torch.optim``'s optimizer of the same name, in the same state."""
    name = type(optimizer).__name__
    if not type(optimizer).__module__.startswith("manual_bp.") or not hasattr(torch.optim, name):
        return optimizer
    groups = [{"params": group["params"]} for group in optimizer.param_groups]
    counterpart: Optimizer = getattr(torch.optim, name)(groups, lr=0.1)
    counterpart.load_state_dict(optimizer.state_dict())
    return counterpart


def rule(optimizer: Optimizer | None, parameter: Tensor) -> tuple[str, dict[str, float]]:
    """The optimizer's rule for a parameter in one line, and its numbers by their letters.

    Args:
        optimizer: That stepped, or None.
        parameter: One of the model.

    Returns:
        The rule, "" where the optimizer is none of those that :mod:`manual_bp.optim` has; and
        the numbers that are not 0.
    """
    for group in [] if optimizer is None else optimizer.param_groups:
        if any(p is parameter for p in group["params"]):
            break
    else:
        return "", {}
    numbers: dict[str, float] = {}
    for name, value in group.items():
        if name == "betas":
            numbers |= {f"beta{i}": float(beta) for i, beta in enumerate(value, 1)}
        elif isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) and value:
            numbers[_LETTERS.get(name, name)] = float(value)
    text = _RULES.get(type(optimizer).__name__, "")
    if text == _RULES["SGD"] and "mu" in numbers:
        held = "" if "tau" not in numbers else "(1 - tau) "
        step = "(g + mu b)" if group.get("nesterov") else "b"
        text = f"b = mu b + {held}g,  theta = theta - lr {step}"
    if text and "lam" in numbers and not text.startswith("theta = theta - lr lam"):
        text = f"g = g + lam theta,  {text}"
    return text, numbers
