"""Two trainings in step, compared: where do they part, and in which layer first?"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-3}
"""The largest relative error that passes for rounding; 0.05 for shorter types.

Rounding starts at the last bit, and a training amplifies it from step to step. In float64 the limit
leaves room for that, and still sees an error in the ninth digit.
"""


@dataclass(frozen=True)
class Parting:
    """Where two trainings part beyond rounding for the first time.

    Attributes:
        step: The training step, from 0.
        layer: The layer; of several in that step, the one that the backward pass reaches first,
            because the others inherit its error. Empty when the loss alone differs.
        what: "gradient", "weights" (the gradients agree, the update does not) or "loss".
        error: The relative error.
    """

    step: int
    layer: str
    what: str
    error: float

    def __str__(self) -> str:
        where = f"the {self.what} of {self.layer}" if self.layer else f"the {self.what}"
        return f"{where} at step {self.step} (relative error {self.error:.1e})"


class Comparison:
    """Relative errors of one training against another, layer by layer and step by step.

    The error of a layer is the Euclidean length of the difference over the larger of the two
    lengths, all its parameters taken together. A layer whose gradient is next to nothing beside
    the whole, such as that of a parameter without effect, holds nothing but rounding; its
    difference is measured against a small share of the whole instead (for float64 2e-6).

    A training near instability amplifies rounding until two correct ones part. What tells this from
    a wrong gradient is :meth:`probe`, which compares gradients at the same weights.

    Args:
        names: Names of the parameters, in the order of the backward pass: layers near the loss
            first.
        dtype: Of the parameters; it decides what passes for rounding.
        limit: The largest relative error that does; None takes :data:`LIMITS`.

    Attributes:
        losses: The loss error of each step; empty until :meth:`flush`, like the others.
        gradients: The largest gradient error of a layer, at each step.
        weights: The largest weight error of a layer, at each step.
        by_layer: The largest gradient error of each layer at any step.
        weights_by_layer: The same of the weights.
        parted: Where the two part for the first time; None as long as they agree.
        same_weights: The largest gradient error of a layer at the same weights.
        wrong: Where gradients differ beyond rounding at the same weights for the first time.
        probes: How many times they were compared at the same weights.
    """

    def __init__(
        self, names: Sequence[str], dtype: torch.dtype, limit: float | None = None
    ) -> None:
        owners = [name.rpartition(".")[0] or name for name in names]
        self.layers = list(dict.fromkeys(owners))
        self.limit = limit or LIMITS.get(dtype, 0.05)
        self._share = 10 * torch.finfo(dtype).eps / self.limit
        self._owner = torch.tensor([self.layers.index(owner) for owner in owners])
        self._pending: list[tuple[int, Tensor]] = []
        self.losses: list[float] = []
        self.gradients: list[float] = []
        self.weights: list[float] = []
        self.by_layer = dict.fromkeys(self.layers, 0.0)
        self.weights_by_layer = dict.fromkeys(self.layers, 0.0)
        self.parted: Parting | None = None
        self.same_weights = 0.0
        self.wrong: Parting | None = None
        self.probes = 0

    def probe(self, step: int, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
        """Compare two gradients at the same weights, in the order of the names."""
        errors = self._errors(ours, theirs).tolist()
        self.probes += 1
        self.same_weights = max(self.same_weights, *errors)
        self.wrong = self.wrong or self._parting(step, 0.0, errors, ())

    def add(
        self,
        step: int,
        losses: tuple[Tensor, Tensor],
        gradients: tuple[Sequence[Tensor], Sequence[Tensor]],
        weights: tuple[Sequence[Tensor], Sequence[Tensor]],
    ) -> None:
        """Compare one step of the two trainings.

        Args:
            step: Its number.
            losses: The two losses, scalars.
            gradients: The two lists of gradients, in the order of the names.
            weights: The two lists of parameters after the step.
        """
        row = torch.cat(
            [
                _apart(losses[0].detach(), losses[1].detach()).reshape(1),
                self._errors(*gradients),
                self._errors(*weights),
            ]
        )
        self._pending.append((step, row))  # on its device: fetching it would make that wait

    def flush(self) -> dict[str, float]:
        """Fetch what was added and bring the attributes up to date.

        Returns:
            The errors of the last step by tag, for a logger; empty when nothing was added.
        """
        if not self._pending:
            return {}
        steps, rows = zip(*self._pending, strict=True)
        self._pending.clear()
        row: list[float] = []
        for step, row in zip(steps, torch.stack(rows).tolist(), strict=True):
            loss, gradients, weights = (
                row[0],
                row[1 : 1 + len(self.layers)],
                row[-len(self.layers) :],
            )
            self.losses.append(loss)
            self.gradients.append(max(gradients))
            self.weights.append(max(weights))
            for layer, gradient, weight in zip(self.layers, gradients, weights, strict=True):
                self.by_layer[layer] = max(self.by_layer[layer], gradient)
                self.weights_by_layer[layer] = max(self.weights_by_layer[layer], weight)
            self.parted = self.parted or self._parting(step, loss, gradients, weights)
        found = dict(zip(self.layers, gradients, strict=True))
        return {
            "manual_against_autograd/loss": loss,
            "manual_against_autograd/gradients": max(gradients),
            "manual_against_autograd/weights": max(weights),
            **{f"manual_against_autograd_gradient/{name}": x for name, x in found.items()},
        }

    def summary(self) -> dict[str, Any]:
        """Return what is not a curve, as plain data.

        These are ``gradients`` and ``weights`` by layer, ``same_weights``, ``probes``, ``limit``,
        and ``parted`` and ``wrong`` (a sentence each, or None).
        """
        self.flush()
        return {
            "gradients": dict(self.by_layer),
            "weights": dict(self.weights_by_layer),
            "same_weights": self.same_weights,
            "probes": self.probes,
            "limit": self.limit,
            "parted": self.parted and str(self.parted),
            "wrong": self.wrong and str(self.wrong),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        self.flush()
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "gradients": torch.tensor(self.gradients, dtype=torch.float64),
            "weights": torch.tensor(self.weights, dtype=torch.float64),
            "by_layer": dict(self.by_layer),
            "weights_by_layer": dict(self.weights_by_layer),
            "same_weights": self.same_weights,
            "probes": self.probes,
            "parted": self.parted and list(astuple(self.parted)),
            "wrong": self.wrong and list(astuple(self.wrong)),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self._pending.clear()
        for name in ("losses", "gradients", "weights"):
            setattr(self, name, state_dict[name].tolist())
        self.by_layer = dict(state_dict["by_layer"])
        self.weights_by_layer = dict(state_dict["weights_by_layer"])
        self.same_weights, self.probes = state_dict["same_weights"], state_dict["probes"]
        self.parted = state_dict["parted"] and Parting(*state_dict["parted"])
        self.wrong = state_dict["wrong"] and Parting(*state_dict["wrong"])

    def _errors(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """The relative error of each layer, (layers,)."""
        apart = self._lengths(torch._foreach_sub(list(ours), list(theirs)))
        one, other = self._lengths(ours), self._lengths(theirs)
        scale = torch.maximum(one, other)
        whole = torch.linalg.vector_norm(scale[scale.isfinite()])
        error = apart / torch.maximum(scale, self._share * whole)
        error = torch.where(apart == 0, 0.0, error)
        # Both have left the range of numbers: there is nothing left to compare.
        error = torch.where(one.isfinite() | other.isfinite(), error, 0.0)
        return torch.where(error.isnan(), math.inf, error)

    def _lengths(self, tensors: Sequence[Tensor]) -> Tensor:
        """The Euclidean length of each layer, float64 (layers,)."""
        lengths = torch.stack(torch._foreach_norm(list(tensors))).double()
        owner = self._owner = self._owner.to(lengths.device)
        squares = lengths.new_zeros(len(self.layers)).index_add_(0, owner, lengths.square())
        return squares.sqrt_()

    def _parting(
        self, step: int, loss: float, gradients: Sequence[float], weights: Sequence[float]
    ) -> Parting | None:
        for what, errors in (("gradient", gradients), ("weights", weights)):
            for layer, error in zip(self.layers, errors, strict=False):
                if error > self.limit:
                    return Parting(step, layer, what, error)
        return Parting(step, "", "loss", loss) if loss > self.limit else None


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """``|a - b| / max(|a|, |b|)``: 0 where both are equal or both are not finite."""
    one, other = one.double(), other.double()
    error = (one - other).abs() / torch.maximum(one.abs(), other.abs())
    same = (one == other) | ~(one.isfinite() | other.isfinite())
    error = torch.where(same, 0.0, error)
    return torch.where(error.isnan(), math.inf, error)
