"""The parts of the study ``batch_size``, and what they have in common."""

from collections.abc import Sequence
from typing import Any

from experiments import configs
from experiments.figures.batch_size import SAMPLES
from experiments.study import Backprop, Options
from experiments.trial import Result


def configuration(
    size: int,
    rate: float,
    seed: int,
    backprop: Backprop,
    options: Options,
    epochs: int,
    *,
    callbacks: Sequence[dict[str, Any]] = (),
    trainer: dict[str, Any] | None = None,
    **network: Any,
) -> dict[str, Any]:
    """One training of the network of all parts, evaluated 30 times or after every step."""
    steps = max(1, epochs) * -(-SAMPLES // size)
    return configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[64], **network),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.0),
        data=configs.item("lightning_modules.data.Digits", batch_size=size, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=epochs,
        evaluate_every=max(1, steps // 30),
        accelerator=options.accelerator,
        callbacks=callbacks,
        trainer=trainer,
    )


def sharpness(result: Result) -> float:
    """The sharpness at the end."""
    return float(result.curves["sharpness/value"][-1])
