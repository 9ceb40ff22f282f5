"""Batches of every size, each at the rate that suits it, for equally many epochs."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import configs
from experiments.measures import by_arm, late_loss
from experiments.parts.batch_size import configuration, noise, sharpness
from experiments.statistics import over, plus_minus
from experiments.study import Backprop, Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

RATES: dict[str, Sequence[float]] = {
    "1": (0.01, 0.03, 0.1),
    "8": (0.1, 0.3, 1.0),
    "16": (0.1, 0.3, 1.0),
    "32": (0.3, 1.0, 3.0),
    "64": (0.3, 1.0, 3.0),
    "128": (0.3, 1.0, 3.0),
    "256": (0.3, 1.0, 3.0),
    "512": (0.3, 1.0, 3.0),
    "1200": (0.3, 1.0, 3.0),
}
SHORT = "8"
"""The batch size of the short form."""

PREDICTION = Prediction(
    claim="For the same number of epochs the best accuracy comes from batches of 2 to 32.",
    source="Masters & Luschi 2018, section 5 (arXiv:1804.07612)",
    refuted_if="the largest mean test accuracy is that of a batch of 64 or more",
)


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training with one batch size, for ten epochs; with single samples for one."""
    final = phase == "final"
    callbacks = [configs.item("experiments.training.sharpness.Sharpness")] if final else []
    if final:
        callbacks += noise.callbacks(arm, options)
    epochs = 1 if options.fast or arm == "1" else 10
    config = configuration(int(arm), rate, seed, backprop, options, epochs, callbacks=callbacks)
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    title = f"{phase}-{arm}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{arm}/seed{seed}-{backprop}" if final else "")


def trials(best: Mapping[str, float], options: Options) -> list[Trial]:
    """Each batch size at its best rate."""
    return [
        trial(arm, rate, seed, options.backprop, options, "final")
        for arm, rate in best.items()
        for seed in options.range(3)
    ]


def verdict(final: Sequence[Result], best: Mapping[str, float], options: Options) -> Verdict:
    """Whether a small batch is the most accurate one."""
    accuracy = {
        arm: float(np.mean([r.metrics["test/accuracy"] for r in by_arm(final, arm)]))
        for arm in best
    }
    winner = max(accuracy, key=accuracy.__getitem__)
    return judge(
        PREDICTION,
        2 <= int(winner) <= 32,
        "test accuracy: " + ", ".join(f"{a} {x:.1%}" for a, x in accuracy.items()),
        options,
    )


def table(final: Sequence[Result], best: Mapping[str, float]) -> Table:
    """Where each batch size ends."""
    rows = [
        (
            arm,
            f"{rate:g}",
            f"{len(own[0].curves['train/loss'])}",
            plus_minus([late_loss(r) for r in own], ".3f"),
            f"{plus_minus([r.metrics['test/accuracy'] for r in own], '.1f', 100)} %",
            plus_minus([sharpness(r) for r in own], ".2f"),
        )
        for arm, rate in best.items()
        for own in [by_arm(final, arm)]
    ]
    return Table(
        "Batches of every size, ten epochs each",
        ("batch", "tuned lr", "steps", "training loss", "test accuracy", "sharpness"),
        rows,
        note=f"{over(len(final) // len(rows))} Single samples: one epoch. Training loss: "
        "mean of the last tenth. Sharpness: largest eigenvalue of the Hessian of the training "
        "loss, at the end.",
    )
