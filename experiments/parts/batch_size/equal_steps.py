"""Three batch sizes at the same rate, for equally many steps."""

from collections.abc import Sequence

import numpy as np

from experiments import configs
from experiments.measures import by_arm, late_loss
from experiments.parts.batch_size import configuration, sharpness
from experiments.statistics import plus_minus
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

ARMS = ("16", "128", "600")

PREDICTION = Prediction(
    claim="Large batches end in sharper minima.",
    source="Keskar et al. 2017, section 2.2 (arXiv:1609.04836)",
    refuted_if="after equally many steps at the same rate, the sharpness with batches of 600 is "
    "not above 1.3 times that with batches of 16, under any seed",
)


def trial(arm: str, seed: int, options: Options) -> Trial:
    """One training with one batch size for 600 steps."""
    config = configuration(
        int(arm),
        0.3,
        seed,
        options.backprop,
        options,
        epochs=-1,
        callbacks=[configs.item("experiments.training.sharpness.Sharpness", every_n_steps=30)],
        trainer={"max_steps": 60 if options.fast else 600, "val_check_interval": 50},
    )
    labels = {"phase": "equal steps", "arm": arm, "rate": 0.3, "seed": seed}
    return Trial(f"steps-{arm}-seed{seed}-{options.backprop}", labels, config)


def trials(options: Options) -> list[Trial]:
    """All of them; the short form leaves the middle one out."""
    return [
        trial(arm, seed, options)
        for arm in ARMS
        for seed in options.range(3)
        if arm != "128" or not options.fast
    ]


def verdict(equal: Sequence[Result], options: Options) -> Verdict:
    """Whether the largest batch ends at the sharpest place."""
    ends = {arm: [sharpness(r) for r in by_arm(equal, arm)] for arm in ARMS}
    ratios = [big / small for small, big in zip(ends["16"], ends["600"], strict=True)]
    return judge(
        PREDICTION,
        all(ratio > 1.3 for ratio in ratios),
        "sharpness at the end: "
        + ", ".join(f"{arm} {np.mean(xs):.2f}" for arm, xs in ends.items() if xs),
        options,
    )


def table(equal: Sequence[Result]) -> Table:
    """Where each batch size ends."""
    return Table(
        "Equally many steps at rate 0.3",
        ("batch", "training loss", "test accuracy", "sharpness"),
        [
            (
                arm,
                plus_minus([late_loss(r) for r in own], ".3f"),
                f"{plus_minus([r.metrics['test/accuracy'] for r in own], '.1f', 100)} %",
                plus_minus([sharpness(r) for r in own], ".2f"),
            )
            for arm in ARMS
            for own in [by_arm(equal, arm)]
            if own
        ],
        note="600 steps: the larger batch sees as many times more samples.",
    )
