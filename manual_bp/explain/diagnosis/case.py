"""One watched step: what the detectors look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.steps import Step
from manual_bp.explain.diagnosis.summary import Summary
from manual_bp.explain.diagnosis.watch import Watch

__all__ = ["Case"]


@dataclass
class Case:
    """A forward and a backward pass, and a step tried out on copies.

    Attributes:
        modules: By path, the model under "".
        parameters: By name.
        buffers: By name; those of the watched pass.
        given: The tensors that were handed in, by name: "inputs[0]", "target".
        watch: What was called, and what went through the backward graph.
        loss: The loss.
        reached: Whether the backward pass could be run.
        gradients: Of the parameters, None where there is none.
        step: What the optimizer would do; None without one.
    """

    modules: dict[str, nn.Module]
    parameters: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    given: dict[str, Tensor]
    watch: Watch
    loss: Tensor
    gradients: dict[str, Tensor | None]
    step: Step | None = None

    @cached_property
    def names(self) -> dict[int, str]:
        """The names of parameters, buffers and inputs, by id."""
        buffers = {id(buffer): name for name, buffer in self.buffers.items()}
        given = {id(tensor): name for name, tensor in self.given.items()}
        return buffers | given | {id(p): name for name, p in self.parameters.items()}

    def inputs(self, call: Call) -> tuple[Summary, ...]:
        """What a call took, each under the name it goes by."""
        return tuple(
            call.summaries[key].called(self.name(key, tensor))
            for key, tensor in call.inputs.items()
        )

    def name(self, key: tuple[int, int], tensor: Tensor) -> str:
        """What a tensor is called: its own name, or who made it."""
        own = self.names.get(id(tensor)) or self.names.get(id(tensor._base))
        if own:
            return own
        maker = self.watch.made(key)
        return f"from {maker.title}" if maker else "constant"

    def weights(self, call: Call) -> list[str]:
        """Names of the weight matrices and kernels (two axes or more) that a call takes."""
        found = []
        for tensor in call.inputs.values():
            for candidate in (tensor, tensor._base):
                name = self.names.get(id(candidate))
                if name in self.parameters and self.parameters[name].ndim >= 2:
                    found.append(name)
        return found

    @cached_property
    def weighted(self) -> list[Call]:
        """The calls with a weight, in forward order."""
        return [call for call in self.watch.calls if self.weights(call)]
