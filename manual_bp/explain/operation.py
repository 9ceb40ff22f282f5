"""One operation of a learning step and its tensors; see :mod:`manual_bp.explain.explanation`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from manual_bp.explain.compare import difference, worst

__all__ = ["Operation", "Symbol"]


@dataclass
class Symbol:
    """One tensor of one operation.

    Attributes:
        name: As the formula writes it: "x", "W", "y".
        argument: As torch calls it: "input", "weight"; empty for an output.
        value: Its numbers when the operation met it, or made it.
        wanted: Whether a gradient is wanted for it (``requires_grad``).
        parameter: The name of the parameter that it is, else None.
        buffer: The name of the buffer that it is, else None.
        producer: The index of the operation that made it, else None: an input of the network,
            a parameter, a buffer, a constant.
        gradient: Of an output, what arrives; of an input, what this operation hands back.
        slope: Of an input, the local derivative dy/dx, in the shape of x, where each element of
            the output depends on one element of x alone; else None.
        autograd: ``gradient`` as autograd computes it in the same step; None where there is none.
        scale: Below what size a gradient counts as cancelled to zero, for the relative error.
    """

    name: str
    argument: str
    value: Tensor
    wanted: bool
    parameter: str | None = None
    buffer: str | None = None
    producer: int | None = None
    gradient: Tensor | None = None
    slope: Tensor | None = None
    autograd: Tensor | None = None
    scale: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.value.shape)

    @property
    def error(self) -> float | None:
        """Largest difference from autograd's gradient over its largest number; None: unknown."""
        return difference(self.gradient, self.autograd, self.scale)


@dataclass
class Operation:
    """One operation of the forward pass and what the backward pass did at it.

    Attributes:
        index: Its place in the forward order, from 0.
        name: Its spec's name, or torch's where the gradient is autograd's own.
        by_hand: Whether its gradient is written by hand.
        module: Path of the module that called it, as ``named_modules`` has it; "" for the model
            itself, "loss" for what the loss function did.
        kind: Class of that module: "Linear".
        formula: The forward pass in one line; empty where no spec tells it.
        rule: The gradients in one line.
        inputs: Its tensors, in the order of the arguments.
        outputs: What it made.
        settings: Its other arguments, those that differ from their defaults.
        dead: Of an activation, the share of elements whose slope is 0; else None.
        saturated: Likewise, the share whose slope is not 0 but below 0.01 in magnitude.
        dead_units: Likewise, the share of units whose slope is 0 for every example and place.
    """

    index: int
    name: str
    by_hand: bool
    module: str
    kind: str
    formula: str
    rule: str
    inputs: list[Symbol]
    outputs: list[Symbol]
    settings: dict[str, Any] = field(default_factory=dict)
    dead: float | None = None
    saturated: float | None = None
    dead_units: float | None = None

    @property
    def title(self) -> str:
        """Where it stands and what it is: ``block1.relu: relu``."""
        return f"{self.module}: {self.name}" if self.module else self.name

    @property
    def symbols(self) -> list[Symbol]:
        """Inputs, then outputs."""
        return [*self.inputs, *self.outputs]

    @property
    def parameters(self) -> list[Symbol]:
        """Those of its inputs that are parameters."""
        return [s for s in self.inputs if s.parameter is not None]

    @property
    def reached(self) -> bool:
        """Whether a gradient arrived."""
        return any(s.gradient is not None for s in self.outputs)

    @property
    def ends_gradient(self) -> bool:
        """Whether a gradient was wanted for an input and can not come through: ``detach``."""
        return any(s.wanted for s in self.inputs) and not any(s.wanted for s in self.outputs)

    @property
    def error(self) -> float | None:
        """The worst relative error of its gradients against autograd; None: not compared."""
        return worst(s.error for s in self.symbols)

    @property
    def blame(self) -> float | None:
        """The norm of the gradient that arrives, over all outputs."""
        norms = [float(s.gradient.norm()) for s in self.outputs if s.gradient is not None]
        return math.hypot(*norms) if norms else None
