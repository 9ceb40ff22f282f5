"""The tutorial's XOR network in NumPy, as published: no framework, no layers, no library of ours.

Forward ``z1 = x W1 + b1, a1 = max(z1, 0), z2 = a1 W2 + b2, a2 = 1 / (1 + exp(-z2))``; the loss is
the mean binary cross-entropy, whose gradient is ``dL/dz2 = (a2 - y) / m``; then the chain rule and
a step of gradient descent. Here the same lines run for many seeds at once, along a first axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.trial import Array

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = np.array([[0.0], [1.0], [1.0], [0.0]])
HIDDEN, SCALE, RATE, STEPS = 4, 0.1, 0.5, 1000


class Published(NamedTuple):
    """What the tutorial's code arrives at.

    Attributes:
        losses: The loss before each step, (seeds, steps).
        final: The loss after the last step, (seeds,).
        outputs: The outputs for the four inputs, (seeds, 4).
    """

    losses: Array
    final: Array
    outputs: Array


def draws(seed: int) -> tuple[Array, Array]:
    """The two weight matrices, (2, 4) and (4, 1), as ``np.random.seed(seed)`` draws them."""
    stream = np.random.RandomState(seed)
    return stream.randn(2, HIDDEN) * SCALE, stream.randn(HIDDEN, 1) * SCALE


def train(seeds: Sequence[int], steps: int = STEPS) -> Published:
    """Train one network for each seed."""
    first, second = zip(*map(draws, seeds), strict=True)
    w1, w2 = np.stack(first), np.stack(second)
    b1, b2 = np.zeros((len(seeds), 1, HIDDEN)), np.zeros((len(seeds), 1, 1))
    losses = []
    for _ in range(steps):
        z1 = X @ w1 + b1
        a1 = np.maximum(z1, 0)
        a2 = 1 / (1 + np.exp(-(a1 @ w2 + b2)))
        losses.append(_loss(a2))
        dz2 = (a2 - Y) / len(X)
        dz1 = (dz2 @ w2.swapaxes(1, 2)) * (z1 > 0)
        w2 = w2 - RATE * a1.swapaxes(1, 2) @ dz2
        b2 = b2 - RATE * dz2.sum(1, keepdims=True)
        w1 = w1 - RATE * X.T @ dz1
        b1 = b1 - RATE * dz1.sum(1, keepdims=True)
    a2 = 1 / (1 + np.exp(-(np.maximum(X @ w1 + b1, 0) @ w2 + b2)))
    return Published(np.stack(losses, axis=1), _loss(a2), a2[..., 0])


def _loss(a2: Array) -> Array:
    return -(Y * np.log(a2) + (1 - Y) * np.log(1 - a2)).mean(axis=(1, 2))
