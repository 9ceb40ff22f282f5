"""The parts of the study ``optimizers``: its optimizers, who is ahead, what a part found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.study import Figure, Table, Verdict

TARGET = 0.9
"""The validation accuracy that counts as having got there."""


@dataclass(frozen=True)
class Arm:
    """An optimizer: its class in ``optim``, its arguments, and the rates to try."""

    name: str
    cls: str
    rates: Sequence[float]
    arguments: Mapping[str, Any] = field(default_factory=dict)


ADAM: Mapping[str, Any] = {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}

# Every argument that matters is written down: LightningCLI fills in what is left out from the
# classifier's default optimizer where the names agree, not from the optimizer that is chosen.
ARMS = (
    Arm("SGD", "SGD", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    Arm("Momentum", "SGD", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), {"momentum": 0.9}),
    Arm(
        "Nesterov",
        "SGD",
        (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        {"momentum": 0.9, "nesterov": True},
    ),
    Arm("AdaGrad", "Adagrad", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), {"eps": 1e-10}),
    Arm(
        "RMSprop",
        "RMSprop",
        (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
        {"alpha": 0.99, "eps": 1e-8},
    ),
    Arm("Adam", "Adam", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), ADAM),
    Arm("AdamW", "AdamW", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), {**ADAM, "weight_decay": 0.01}),
)


@dataclass(frozen=True)
class Part:
    """What one part of the study found; see :class:`experiments.study.Findings`."""

    verdict: Verdict
    table: Table
    figure: Figure | None = None
    warnings: Sequence[str] = ()


def named(name: str) -> Arm:
    """The arm of that name."""
    return next(arm for arm in ARMS if arm.name == name)


def ahead(steps: Mapping[str, Sequence[float]], names: Sequence[str], share: float = 0.8) -> bool:
    """Whether these need at most that share of SGD's steps, and never more than it.

    Args:
        steps: By optimizer, the steps to the target under each seed.
        names: Of the optimizers that are to be ahead.
        share: Of the means.
    """
    return all(
        bool(np.isfinite(np.mean(steps[name])))
        and float(np.mean(steps[name])) <= share * float(np.mean(steps["SGD"]))
        and all(a <= b for a, b in zip(steps[name], steps["SGD"], strict=True))
        for name in names
    )
