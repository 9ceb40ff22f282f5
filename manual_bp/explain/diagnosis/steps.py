"""The optimizer's step, tried out on copies of the parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Move", "Step", "attempt"]


@dataclass(frozen=True)
class Move:
    """What the step does to one parameter.

    Attributes:
        weight: Norm of the parameter.
        change: Norm of what the step adds to it.
        undecayed: Norm of what it would add without weight decay; ``change`` where there is none.
        decay: Norm of the part that is due to weight decay.
    """

    weight: float
    change: float
    undecayed: float
    decay: float

    @property
    def ratio(self) -> float:
        """Change over weight, NaN for a parameter that is zero."""
        return self.change / self.weight if self.weight else math.nan


@dataclass(frozen=True)
class Step:
    """One step of the optimizer.

    Attributes:
        optimizer: Its class.
        rates: Learning rates of its groups.
        moves: By the parameter's name.
        held: Names of all parameters that the optimizer has.
        before: The loss.
        after: The loss of the same batch, with the same random numbers, after the step.
        predicted: What the gradient says that the step adds to the loss: g . change, summed.
    """

    optimizer: str
    rates: tuple[float, ...]
    moves: dict[str, Move]
    held: frozenset[str]
    before: float
    after: float
    predicted: float


def attempt(
    parameters: Mapping[str, nn.Parameter],
    gradients: Mapping[str, Tensor | None],
    optimizer: torch.optim.Optimizer,
    before: float,
    again: Callable[[], Tensor],
) -> Step | None:
    """Let a copy of the optimizer step, and compute the loss with the weights it arrives at.

    Args:
        parameters: The model's, by name; their numbers are changed and put back.
        gradients: By name.
        optimizer: Left as it is.
        before: The loss.
        again: Computes the loss of the same batch.

    Returns:
        The step; None for an optimizer that has to compute the loss itself (LBFGS).
    """
    names = {id(p): name for name, p in parameters.items()}
    held = frozenset(
        names[id(p)] for g in optimizer.param_groups for p in g["params"] if id(p) in names
    )
    stepped = _stepped(names, gradients, optimizer, decay=True)
    if stepped is None:
        return None
    decays = any(group.get("weight_decay") for group in optimizer.param_groups)
    plain = _stepped(names, gradients, optimizer, decay=False) if decays else stepped
    assert plain is not None
    moves, predicted = {}, 0.0
    for name, new in stepped.items():
        old = parameters[name].detach()
        change = new - old
        moves[name] = Move(
            weight=_norm(old),
            change=_norm(change),
            undecayed=_norm(plain[name] - old),
            decay=_norm(new - plain[name]),
        )
        gradient = gradients[name]
        if gradient is not None:
            dense = gradient.to_dense() if gradient.is_sparse else gradient
            product = (dense.conj() * change).sum() if change.is_complex() else (dense * change)
            predicted += float(product.real.double().sum())
    with _lent(parameters, stepped):
        after = float(again().detach())
    rates = tuple(float(group.get("lr", math.nan)) for group in optimizer.param_groups)
    return Step(type(optimizer).__name__, rates, moves, held, before, after, predicted)


@torch.no_grad()
def _stepped(
    names: Mapping[int, str],
    gradients: Mapping[str, Tensor | None],
    optimizer: torch.optim.Optimizer,
    decay: bool,
) -> dict[str, Tensor] | None:
    """The parameters after a step of a copy, by name."""
    twin = copy.deepcopy(optimizer)
    for hooks in (twin._optimizer_step_pre_hooks, twin._optimizer_step_post_hooks):
        hooks.clear()
    found = {}
    for group, original in zip(twin.param_groups, optimizer.param_groups, strict=True):
        if not decay:
            group["weight_decay"] = 0.0
        for parameter, own in zip(group["params"], original["params"], strict=True):
            name = names.get(id(own))
            gradient = None if name is None else gradients.get(name)
            parameter.grad = None if gradient is None else gradient.detach().clone()
            if name is not None and gradient is not None:
                found[name] = parameter.detach()
    try:
        # Not twin.step(): a learning rate schedule has put the original's step in its place.
        type(twin).step(twin)
    except TypeError:
        return None
    return found


@contextmanager
def _lent(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the parameters other numbers for a while."""
    own = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value


def _norm(x: Tensor) -> float:
    x = torch.view_as_real(x) if x.is_complex() else x
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))
