"""One call of a torch function, and what passed through its nodes in the backward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from manual_bp.explain.diagnosis.summary import Summary
from manual_bp.spec import Spec

__all__ = ["Call", "Key", "Passage"]

Key = tuple[int, int]
"""A tensor and its version: an operation in place makes a new one of the same tensor."""


@dataclass
class Passage:
    """What one node of the backward graph received and passed on.

    Attributes:
        node: The node.
        call: The call that made the node; None where it is not known.
        arriving: Summaries of dL/d(outputs).
        leaving: Summaries of dL/d(inputs), None where no gradient was asked for or given.
    """

    node: Any
    call: Call | None
    arriving: list[Summary | None]
    leaving: list[Summary | None]


@dataclass
class Call:
    """One call of a torch function.

    Attributes:
        index: Its place in the forward pass, from 0.
        name: torch's name of the function.
        module: Path of the module that made the call; "" is the model itself.
        spec: What manual_bp says of the function; None where it is not written by hand.
        args: Positional and keyword arguments, as they were.
        inputs: Its tensors, by key.
        outputs: What it made, by key.
        grad_enabled: Whether gradients were on.
        wanted: Whether a gradient was wanted for an input.
        summaries: Of inputs and outputs, as they were at the call.
        nodes: The nodes of the backward graph that it made.
        passages: What went through them, in the order of the backward pass.
    """

    index: int
    name: str
    module: str
    spec: Spec | None
    args: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: dict[Key, Tensor]
    outputs: dict[Key, Tensor]
    grad_enabled: bool
    wanted: bool
    summaries: dict[Key, Summary]
    nodes: list[Any] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Where and what: ``layers.2: relu``."""
        return f"{self.module}: {self.name}" if self.module else self.name

    @property
    def output(self) -> Summary | None:
        """Summary of the first output."""
        return next((self.summaries[key] for key in self.outputs), None)

    @property
    def arriving(self) -> Summary | None:
        """Summary of the gradient that arrives at the first output."""
        if not self.outputs or not self.passages:
            return None
        first = next(iter(self.outputs.values()))
        for passage in self.passages:
            if passage.node is first.grad_fn and len(passage.arriving) > first.output_nr:
                return passage.arriving[first.output_nr]
        return self.passages[0].arriving[0]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """One of the arguments, by position or by name."""
        args, kwargs = self.args
        return args[position] if len(args) > position else kwargs.get(name, default)
