"""A tanh RNN before its first step, its recurrent matrix scaled to four spectral radii."""

from collections.abc import Sequence

import numpy as np

from experiments import configs
from experiments.figures.bptt import LENGTHS, RADII, radius_arm
from experiments.measures import by_arm
from experiments.parts.bptt import configuration, each, means, reached, through_time
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

LENGTH = 50
"""Steps of a sequence."""

EXPLODES = Prediction(
    claim="The spectral radius decides: below 1 the gradient vanishes through time, well above 1 "
    "it explodes.",
    source="Pascanu, Mikolov & Bengio 2013, section 2.1 (arXiv:1211.5063)",
    refuted_if="before the first step dL/dh_0 is longer than 1e-12 of dL/dh_50 at radius 0.5 or "
    "than 0.01 of it at 0.9, or shorter than dL/dh_50 itself at 1.5, under any seed",
)
LOSES = Prediction(
    claim="A truncated gradient loses what has not vanished by then: nearly nothing at a small "
    "radius, most of it at a large one.",
    source="Williams & Peng 1990; Tallec & Ollivier 2017 (arXiv:1705.08209)",
    refuted_if="truncated to 10 of 50 steps, the gradient differs from the full one by more than "
    "0.001 of its length at radius 0.5, or by less than 0.5 of it at 1.5, under any seed",
)


def trial(radius: float, seed: int, options: Options) -> Trial:
    """One step of an RNN of that spectral radius, whose first gradient is looked at."""
    config = configuration(
        network={"kind": "RNN", "hidden": 64, "radius": radius},
        data=configs.item("lightning_modules.data.Adding", steps=LENGTH, train=320, seed=seed),
        optimizer=configs.optimizer("SGD", options.backprop, lr=0.001),
        backprop=options.backprop,
        seed=seed,
        steps=1,
        options=options,
        callbacks=[through_time(LENGTH)],
    )
    labels = {"phase": "radius", "arm": radius_arm(radius), "seed": seed}
    return Trial(f"radius-{radius:g}-seed{seed}-{options.backprop}", labels, config)


def trials(options: Options) -> list[Trial]:
    """All radii; the short form has the smallest and the largest."""
    radii = (0.5, 1.5) if options.fast else RADII
    return [trial(radius, seed, options) for radius in radii for seed in options.range(3)]


def lost(result: Result) -> float:
    """The relative error of the gradient that is truncated to 10 steps, before training."""
    return float(result.curves["truncated/error/start"][LENGTHS.index(10)])


def verdicts(results: Sequence[Result], options: Options) -> list[Verdict]:
    """Whether gradients vanish and explode with the radius, and truncation loses the rest."""
    arrives = {r: each(results, radius_arm(r), reached) for r in RADII}
    cut = {r: each(results, radius_arm(r), lost) for r in RADII}
    return [
        judge(
            EXPLODES,
            max(arrives[0.5]) <= 1e-12
            and max(arrives[0.9], default=0) <= 0.01
            and min(arrives[1.5]) >= 1,
            f"dL/dh_0 over dL/dh_{LENGTH}: {means(arrives, '.1e', 'radius ')}",
            options,
            short=True,
        ),
        judge(
            LOSES,
            max(cut[0.5]) <= 1e-3 and min(cut[1.5]) >= 0.5,
            f"relative error: {means(cut, '.1e', 'radius ')}",
            options,
            short=True,
        ),
    ]


def table(results: Sequence[Result]) -> Table:
    """What arrives at each radius, and what truncation loses."""
    rows = [
        (
            f"{r:g}",
            f"{np.median([reached(result) for result in own]):.1e}",
            *(f"{_median(own, k):.1e}" for k in (1, 5, 10, 20)),
        )
        for r in RADII
        if (own := by_arm(results, radius_arm(r)))
    ]
    return Table(
        f"A tanh RNN of 64 units over {LENGTH} steps, before the first one",
        ("radius", "arrives", "k = 1", "k = 5", "k = 10", "k = 20"),
        rows,
        note=f"Arrives: dL/dh_0 over dL/dh_{LENGTH}. Under k: relative error of the gradient "
        "truncated to k steps. Medians over the seeds.",
    )


def _median(results: Sequence[Result], k: int) -> float:
    place = LENGTHS.index(k)
    return float(np.median([r.curves["truncated/error/start"][place] for r in results]))
