"""The parts of the study ``learning_rate``, and what they have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import configs
from experiments.statistics import plus_minus
from experiments.study import Options
from experiments.trial import Trial

CHANCE = float(np.log(10))
"""The loss of a classifier that knows nothing: ten equal probabilities."""

LOOK = 25
"""Steps from one measurement of the sharpness to the next, without noise."""


def without_noise(
    part: str,
    arm: str,
    rate: float,
    seed: int,
    options: Options,
    *,
    hidden: Sequence[int],
    steps: int,
    centred: bool = False,
) -> Trial:
    """Gradient descent on the squared error of 300 digits, all of them in each step."""
    config = configs.fit(
        learner="experiments.training.squared_error.SquaredError",
        network=configs.item(
            "lightning_modules.networks.MLP", hidden=list(hidden), activation="Tanh"
        ),
        optimizer=configs.optimizer("SGD", options.backprop, lr=rate, momentum=0.0),
        data=configs.item(
            "experiments.training.full_batch.FullBatch",
            samples=300,
            steps_per_epoch=steps,
            centred=centred,
        ),
        backprop=options.backprop,
        seed=seed,
        epochs=1,
        evaluate_every=steps,
        accelerator=options.accelerator,
        callbacks=[configs.item("experiments.training.sharpness.Sharpness", every_n_steps=LOOK)],
    )
    return _named(part, arm, rate, seed, options, config)


def with_noise(
    part: str,
    arm: str,
    rate: float,
    seed: int,
    options: Options,
    *,
    batch: int = 64,
    learner: str = "lightning_modules.Classifier",
    shape: str = "constant",
    warmup: int = 0,
    look: int = 0,
    **network: Any,
) -> Trial:
    """Ten epochs of stochastic gradient descent on 1200 digits; one in the short form."""
    callbacks = [
        configs.item("experiments.training.schedule.Schedule", shape=shape, warmup=warmup),
        configs.item("experiments.training.sharpness.Sharpness", every_n_steps=look),
    ]
    config = configs.fit(
        learner=learner,
        network=configs.item("lightning_modules.networks.MLP", **network),
        optimizer=configs.optimizer("SGD", options.backprop, lr=rate, momentum=0.0),
        data=configs.item("lightning_modules.data.Digits", batch_size=batch, seed=seed),
        backprop=options.backprop,
        seed=seed,
        epochs=1 if options.fast else 10,
        evaluate_every=19,
        accelerator=options.accelerator,
        callbacks=callbacks,
    )
    return _named(part, arm, rate, seed, options, config)


def _named(
    part: str, arm: str, rate: float, seed: int, options: Options, config: dict[str, Any]
) -> Trial:
    labels = {"phase": part, "arm": arm, "rate": rate, "seed": seed}
    words = f"{part}-{arm}-lr{rate:.4g}-seed{seed}-{options.backprop}"
    watch = f"{part}/{arm.replace('/', '-')}/seed{seed}-{options.backprop}"
    return Trial(words.replace("/", "-").replace(" ", "-"), labels, config, watch)


def loss_text(losses: Sequence[float]) -> str:
    """Losses by seed as text, or how many of them diverged."""
    if not losses:
        return "not run"
    diverged = sum(not np.isfinite(loss) for loss in losses)
    return f"{diverged} of {len(losses)} diverged" if diverged else plus_minus(losses, ".3f")
