"""The parts of the study ``bptt``, and what they have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import configs
from experiments.figures.bptt import LENGTHS
from experiments.measures import by_arm
from experiments.study import Backprop, Options
from experiments.trial import Result


def configuration(
    *,
    network: dict[str, Any],
    data: dict[str, Any],
    optimizer: dict[str, Any],
    backprop: Backprop,
    seed: int,
    steps: int,
    options: Options,
    **more: Any,
) -> dict[str, Any]:
    """What the configurations of all trials have in common."""
    return configs.fit(
        learner="lightning_modules.SequenceRegressor",
        network=configs.item("lightning_modules.networks.Recurrent", **network),
        optimizer=optimizer,
        data=data,
        backprop=backprop,
        seed=seed,
        epochs=-1,
        evaluate_every=max(1, steps // 10),
        accelerator=options.accelerator,
        trainer={"max_steps": steps, **more.pop("trainer", {})},
        **more,
    )


def through_time(steps: int) -> dict[str, Any]:
    """The callback that looks at the gradient through so many steps."""
    lengths = [k for k in LENGTHS if k <= steps]
    return configs.item("experiments.training.through_time.ThroughTime", lengths=lengths)


def reached(result: Result) -> float:
    """What of the gradient at the last state arrives at the first, before training."""
    return float(result.curves["state/start"][0])


def test_error(result: Result) -> float:
    """The mean squared error of the test part."""
    return float(result.metrics["test/loss"])


def each(results: Sequence[Result], arm: str, read: Callable[[Result], float]) -> list[float]:
    """One number of each result of an arm."""
    return [read(result) for result in by_arm(results, arm)]


def means(
    found: Mapping[Any, Sequence[float]], form: str, before: str = "", scale: float = 1.0
) -> str:
    """The mean of each arm that was run, as text: ``RNN 0.17, GRU 0.01``."""
    return ", ".join(
        f"{before}{name} {np.mean(values) * scale:{form}}"
        for name, values in found.items()
        if values
    )
