"""Eight layers, each of which halves the gradient; and what cures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Lesson, Setup, Table
from manual_bp.explain.step import explain

DEPTH = 8


class Chain(nn.Module):
    """Eight layers of one unit: ``h = f(w h + b)``, or ``h + f(w h + b)`` with a shortcut.

    Args:
        activation: f.
        weight: Of every layer.
        bias: Of every layer.
        shortcut: Whether each layer's input is added to its output.
    """

    def __init__(
        self, activation: type[nn.Module], weight: float, bias: float, shortcut: bool = False
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        for i in range(1, DEPTH + 1):
            layer = nn.Linear(1, 1, dtype=torch.float64)
            nn.init.constant_(layer.weight, weight)
            nn.init.constant_(layer.bias, bias)
            self.add_module(f"layer{i}", nn.Sequential(layer, activation()))

    def forward(self, x: Tensor) -> Tensor:
        """Run (1, 1) through the layers, and return a number."""
        for layer in self.children():
            x = x + layer(x) if self.shortcut else layer(x)
        return x.sum()


def build() -> Setup:
    """Sigmoids in the middle of their range, where their slope is largest: 1/4; weights of 2."""
    return _setup(Chain(nn.Sigmoid, 2.0, -1.0))


def _setup(chain: Chain) -> Setup:
    return Setup(chain, (torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True),))


_CURES: tuple[tuple[str, Callable[[], Chain]], ...] = (
    ("ReLU, weight 1", lambda: Chain(nn.ReLU, 1.0, 0.0)),
    ("tanh, weight 1", lambda: Chain(nn.Tanh, 1.0, 0.0)),
    ("sigmoid, shortcut", lambda: Chain(nn.Sigmoid, 2.0, -1.0, shortcut=True)),
)


def tell(step: Explanation) -> Iterator[str | Table]:
    """What arrives at each layer, in this chain and in others."""
    arriving = _entering(step)
    yield (
        f"{arriving[-1]:.3f}, that is 0.5 eight times: {arriving[0]:.3f} below the last layer, "
        f"then {arriving[1]:.3f}, and so on. On its way back the gradient is multiplied, layer "
        "after layer, by weight × slope. A sigmoid has its largest slope in the middle, where its "
        "output is 0.5: 0.5 × (1 - 0.5) = 0.25. With a weight of 2 that makes 0.5 a layer: half "
        "of the blame is lost in each."
    )
    cures = [(name, _entering(explain(make(), *_setup(make()).inputs))) for name, make in _CURES]
    rows = []
    for i, g in enumerate(arriving):
        rows.append(
            (f"{DEPTH - i}", f"{g:.3f}", f"0.5^{i + 1}", *(f"{found[i]:.3f}" for _, found in cures))
        )
    yield Table(
        ("below layer", "sigmoid, weight 2", "is", *(name for name, _ in cures)),
        rows,
        "dL/dh below each layer, from the top one down.",
    )
    yield (
        "Three things help. A ReLU that is on has the slope 1: with a weight of 1 the gradient "
        "passes whole. tanh has the slope 1 at zero, four times a sigmoid's, but less away from "
        "it. And a shortcut adds the layer's input to its output: then the gradient is multiplied "
        f"by 1 + weight × slope, and that is more than 1. It even grows a little, to "
        f"{cures[-1][1][-1]:.3f}; which is why networks with many shortcuts normalize their "
        "branches."
    )
    yield (
        "Larger weights are no cure. With a weight of 4 the product is 1 in the very middle of the "
        "sigmoid; but the larger the weight, the sooner the sigmoid leaves its middle, and there "
        "its slope goes to 0."
    )


def _entering(step: Explanation) -> list[float]:
    """dL/dh at the input of each layer, of the last layer first."""
    shortcut = any(o.name == "add" for o in step)
    found = []
    for i in range(DEPTH - 1, 0, -1):
        made = step.at("")[i - 1] if shortcut else step.at(f"layer{i}.1")[0]
        found.append(made.outputs[0].gradient)
    # What enters the network goes into the first layer, and past it where there is a shortcut.
    shares = [s.gradient for o in step for s in o.inputs if not s.parameter and s.producer is None]
    return [
        *(float(g) for g in found if g is not None),
        sum(float(g) for g in shares if g is not None),
    ]


LESSON = Lesson(
    name="sigmoid-chain",
    title="Eight layers that halve the gradient",
    question=(
        "Eight layers stand in a row. The gradient comes to the last of them as 1, and each layer "
        "hands back half of what it gets. How much is left below the first layer? And what could a "
        "layer do so that more is left?"
    ),
    build=build,
    tell=lambda step: list(tell(step)),
)
