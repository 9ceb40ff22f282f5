"""What one learning step consists of, as data: every view of it reads from here.

::

    Explanation                one step: forward, backward, update
      .operations              in forward order; each an Operation
         .name .module         "relu", and "block1.relu": who called it ("loss" for the loss)
         .formula .rule        forward and backward in one line each, from the operation's Spec
         .inputs .outputs      Symbols: the tensors by the letters of the formula
            .value             the numbers, as they were at that moment
            .gradient          of an output: what arrives, dL/dy, summed over everyone who used y
                               of an input: what this operation hands back (its own share alone)
            .slope             of an input: dy/dx, where it is element by element, else None
            .autograd .error   the same gradient by autograd, and the relative error against it
            .parameter         name of the parameter that it is, or None
            .producer          index of the operation that made it, or None
         .dead .saturated      of an activation: share of elements without, or almost without slope
         .dead_units           ... and share of units that no example of the batch excites
      .backward                indices of the operations, in the order gradients reached them
      .updates                 one Update a parameter: before, gradient, after

A gradient is None where none was computed: nobody asked (``wanted`` is False), or the operation
does not lead to the loss. An operation whose outputs are not ``wanted`` although an input is ends
the gradient's way (``detach``); it is told like every other. Not told is what neither a parameter
nor an input of floating-point numbers goes into (masks, positions), and what runs under
``torch.no_grad()``.

All tensors are copies on the model's device, detached; nothing here belongs to the user's model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from manual_bp.explain.compare import difference, worst
from manual_bp.explain.operation import Operation

__all__ = ["Explanation", "Table", "Update"]


@dataclass
class Update:
    """What the step did to one parameter.

    Attributes:
        name: As ``named_parameters`` has it.
        before: Its value.
        gradient: dL/d(parameter), summed over every use of it; None where there is none.
        after: Its value after the optimizer's step; None without an optimizer.
        wanted: Whether it requires a gradient; False for a frozen one.
        autograd: The gradient by autograd.
        reference: The value after torch's own optimizer stepped on the same gradients.
        rule: The optimizer's rule in one line.
        numbers: The optimizer's numbers for it, by the letters of the rule: "lr".
        scale: As a :class:`~manual_bp.explain.Symbol`'s.
    """

    name: str
    before: Tensor
    gradient: Tensor | None
    after: Tensor | None
    wanted: bool = True
    autograd: Tensor | None = None
    reference: Tensor | None = None
    rule: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    scale: float = 0.0

    @property
    def change(self) -> Tensor | None:
        """``after - before``."""
        return None if self.after is None else self.after - self.before

    @property
    def ratio(self) -> float | None:
        """Norm of the change over the norm of the parameter."""
        if self.change is None:
            return None
        size = float(self.before.norm())
        return float(self.change.norm()) / size if size else math.inf

    @property
    def error(self) -> float | None:
        """Relative error of the gradient against autograd."""
        return difference(self.gradient, self.autograd, self.scale)

    @property
    def error_after(self) -> float | None:
        """Relative error of the new value against what torch's own optimizer makes of it."""
        return difference(self.after, self.reference)


@dataclass(frozen=True)
class Table:
    """Numbers between two paragraphs.

    Attributes:
        head: The columns' names.
        rows: Cells, as text.
        caption: One line, or empty.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass
class Explanation:
    """One learning step. ``print`` shows it as text; see the views for other forms.

    Attributes:
        model: Class of the model.
        operations: In the order of the forward pass.
        backward: Their indices in the order in which gradients reached them.
        updates: Of every parameter, in ``named_parameters`` order.
        loss: The loss.
        optimizer: The optimizer's class, or None.
        modules: Path to class of every module, as ``named_modules`` has it.
        dtype: Of the loss: "float32".
        title: What the page is headed with; a lesson's title.
        notes: What the reader should know of the recording, in sentences.
        question: What a lesson asks the reader; empty elsewhere.
        answer: What a lesson answers: paragraphs and tables.
    """

    model: str
    operations: list[Operation]
    backward: list[int]
    updates: list[Update]
    loss: Tensor
    optimizer: str | None = None
    modules: dict[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    title: str = ""
    notes: list[str] = field(default_factory=list)
    question: str = ""
    answer: list[str | Table] = field(default_factory=list)

    @property
    def error(self) -> float | None:
        """The worst relative error against autograd of any gradient or updated weight."""
        found: list[float | None] = [operation.error for operation in self.operations]
        for update in self.updates:
            found += [update.error, update.error_after]
        return worst(found)

    def at(self, module: str) -> list[Operation]:
        """The operations of a module and of those inside it.

        Raises:
            KeyError: If no operation stands there.
        """
        found = [o for o in self.operations if f"{o.module}.".startswith(f"{module}.")]
        if not found:
            raise KeyError(f"no operation stands in a module called {module!r}")
        return found

    def only(self, module: str) -> Explanation:
        """The part of the step that one module, with those inside it, took.

        Raises:
            KeyError: If no operation stands there.
        """
        operations = self.at(module)
        indices = {operation.index for operation in operations}
        return replace(
            self,
            operations=operations,
            backward=[i for i in self.backward if i in indices],
            updates=[u for u in self.updates if u.name.startswith(f"{module}.")],
            title=f"{self.title}, {module}",
        )

    def update(self, parameter: str) -> Update:
        """The update of the parameter of that name.

        Raises:
            KeyError: If there is none.
        """
        for update in self.updates:
            if update.name == parameter:
                return update
        raise KeyError(f"no parameter is called {parameter!r}")

    def __iter__(self) -> Iterator[Operation]:
        """Iterate over the operations, forward."""
        return iter(self.operations)

    def __str__(self) -> str:
        """The step as plain text."""
        from manual_bp.explain.views.text import text

        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        from manual_bp.explain.views.as_json import to_dict

        return to_dict(self)

    def save(self, path: str | Path) -> None:
        """Write it to a file: ``.html``, ``.md``, ``.json`` or ``.txt``.

        Raises:
            ValueError: For another ending.
            OSError: If it cannot be written.
        """
        from manual_bp.explain.views import render

        Path(path).write_text(render(self, Path(path).suffix.removeprefix(".")), encoding="utf-8")
