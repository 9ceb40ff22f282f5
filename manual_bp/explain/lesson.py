"""What a lesson is: a network, a question, and the answer that the numbers give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from manual_bp.explain.explanation import Explanation, Table

__all__ = ["Lesson", "Setup", "Table"]


@dataclass
class Setup:
    """The arguments of one call of :func:`manual_bp.explain`.

    What a factory named on the command line returns; ``(model, inputs, target)`` stands for it,
    with ``inputs`` a tensor or a tuple.

    Attributes:
        model: The network.
        inputs: Positional arguments of its ``forward``.
        target: For the loss.
        loss: ``loss(output, target)``.
        optimizer: One over the model's parameters, or a function from parameters to one.
        named: Keyword arguments of ``forward``.
    """

    model: nn.Module
    inputs: tuple[Any, ...] = ()
    target: Any = None
    loss: Callable[..., Any] | None = None
    optimizer: Any = None
    named: dict[str, Any] = field(default_factory=dict)

    def explain(self) -> Explanation:
        """Record the step."""
        from manual_bp.explain.step import explain

        return explain(
            self.model,
            *self.inputs,
            target=self.target,
            loss=self.loss,
            optimizer=self.optimizer,
            **self.named,
        )


@dataclass(frozen=True)
class Lesson:
    """A lesson that is computed when it is asked for.

    Attributes:
        name: On the command line: "xor".
        title: Of the page.
        question: What the reader is asked before anything is shown.
        build: Makes the network, its data and its optimizer; seeds itself.
        tell: The answer, from the recorded step: paragraphs (``*emphasis*`` and ```code```, as in
            Markdown) and tables. It may record other steps of its own.
    """

    name: str
    title: str
    question: str
    build: Callable[[], Setup]
    tell: Callable[[Explanation], Sequence[str | Table]]

    def explain(self) -> Explanation:
        """Record the step, and answer the question from it."""
        step = self.build().explain()
        step.title, step.question = self.title, self.question
        step.answer = list(self.tell(step))
        return step
