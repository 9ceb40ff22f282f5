"""What is wrong with a network's gradients: :func:`diagnose`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from manual_bp.explain.diagnosis import Diagnosis, examine
from manual_bp.explain.loss import loss_of
from manual_bp.explain.running import detached, output_of

__all__ = ["diagnose"]


def diagnose(
    model: nn.Module,
    *inputs: Any,
    target: Any = None,
    loss: Callable[..., Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **named: Any,
) -> Diagnosis:
    """Run one step of ``model`` on a batch, and tell what is wrong with it.

    Looked for are: the first operation that makes a NaN or an infinity, forward or backward;
    parameters without a gradient, or with one that is exactly zero, and where its way ends; dead,
    saturated and symmetric units; gradients that vanish or explode, through layers and through
    time; inputs, losses and normalization layers that do not suit each other; and, with an
    optimizer, steps that are too long, too short, or made by weight decay alone. A healthy
    network has no findings.

    The step runs on the gradients that the model runs on: autograd's, or those by hand inside
    ``with manual_bp.by_hand():``. Parameters, gradients, buffers, random numbers and the optimizer
    are left as they were. On a CPU it took as long as three steps of a network of two million
    parameters, ten of a small ResNet or GPT, and 50 ms of one whose step takes next to nothing;
    with an optimizer it needs the memory of one more copy of the parameters, or two.

    Args:
        model: Any module, in the mode (``train`` or ``eval``) in which it is.
        inputs: One batch: the positional arguments of its ``forward``. The larger the batch, the
            surer what is said of units: 32 examples are enough.
        target: What the output should have been; given to ``loss`` as its second argument.
        loss: ``loss(output, target)``, or ``loss(output)`` where there is no target. Without one:
            as :func:`manual_bp.explain` has it.
        optimizer: One over the model's parameters; without it nothing is said of the step.
        named: Keyword arguments of ``forward``.

    Returns:
        The findings, the gravest first; ``print`` shows them with their usual cures.

    Raises:
        TypeError: For a model that is no module, or a loss or optimizer of another kind.
        ValueError: Where the model, the loss or the backward pass cannot run, or the loss is not
            one number.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
        >>> model[0].weight.data[3, 1] = float("nan")
        >>> found = diagnose(model, torch.ones(2, 4), target=torch.ones(2, 8))
        >>> found.findings[0].title
        '0.weight: linear: parameter not finite'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"diagnose() takes a torch.nn.Module, got {type(model).__name__}")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is called as loss(output, target), got {type(loss).__name__}")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is a torch.optim.Optimizer, got {type(optimizer).__name__}")
    # A model may write into its inputs: the second run is to meet the same ones.
    batches = [detached((inputs, named, target)) for _ in range(2 if optimizer else 1)]
    first = batches[0]

    def run() -> Tensor:
        given, keywords, goal = batches.pop(0)
        return loss_of(output_of(model, given, keywords), goal, loss)

    parts = zip(("inputs", "", "target"), first, strict=True)
    return examine(model, run, dict(t for part in parts for t in _named(*part)), optimizer)


def _named(name: str, values: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a structure: ``inputs[0]``, ``mask``, ``target``."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _named(f"{name}[{key!r}]" if name else str(key), value)
    elif isinstance(values, (list, tuple)):
        for at, value in enumerate(values):
            yield from _named(f"{name}[{at}]", value)
