"""Where a training of the XOR network ends: solved, or on one of three plateaus."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments import published
from experiments.trial import Array, Result

PLATEAUS = {
    2: np.log(2) / 2,
    3: (2 * np.log(3 / 2) + np.log(3)) / 4,
    4: np.log(2),
}
"""The least loss when 2, 3 or 4 inputs share one output, the others being right.

Two inputs of different label share the output 1/2; three, of labels 1, 1, 0, share 2/3 (or of
labels 0, 0, 1, 1/3); four share 1/2.
"""


@dataclass(frozen=True)
class Ending:
    """Where a seed ends.

    Attributes:
        seed: The seed.
        answers: The four answers, 0 or 1.
        loss: The loss after the last step.
        shared: How many inputs share one output (2, 3 or 4) by the nearest plateau; 0 if solved.
        distance: How far the loss is from that plateau.
        live: How many hidden units are on for any input.
    """

    seed: int
    answers: tuple[int, ...]
    loss: float
    shared: int
    distance: float
    live: int

    @property
    def solved(self) -> bool:
        """Whether the answers are XOR's."""
        return self.answers == (0, 1, 1, 0)


def forward(weights: Mapping[str, Array], x: Array) -> tuple[Array, Array]:
    """The trained network: what reaches the hidden units, (N, 4), and the outputs, (N,)."""
    hidden = x @ weights["network.hidden.weight"].T + weights["network.hidden.bias"]
    logits = np.maximum(hidden, 0) @ weights["network.output.weight"].T
    return hidden, 1 / (1 + np.exp(-(logits + weights["network.output.bias"])))[:, 0]


def ending(result: Result, backprop: str) -> Ending:
    """Where a training ended: that by hand or that by autograd, where both went in step."""
    hidden, outputs = forward(result.weights(backprop), published.X)
    answers = tuple(int(output > 0.5) for output in outputs)
    right = np.where(published.Y[:, 0] > 0, outputs, 1 - outputs)
    loss = -float(np.log(right).mean())
    shared = min(PLATEAUS, key=lambda count: abs(PLATEAUS[count] - loss))
    return Ending(
        seed=result.trial.labels["seed"],
        answers=answers,
        loss=loss,
        shared=0 if answers == (0, 1, 1, 0) else shared,
        distance=abs(PLATEAUS[shared] - loss),
        live=int((hidden > 0).any(axis=0).sum()),
    )
