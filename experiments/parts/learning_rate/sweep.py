"""An ordinary training, at rates from one that is far too low to one that diverges."""

from collections.abc import Sequence

import numpy as np

from experiments.measures import by_arm, late_loss
from experiments.parts.learning_rate import CHANCE, loss_text, with_noise
from experiments.statistics import over, plus_minus
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

RATES = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)

PREDICTION = Prediction(
    claim="The best rate is close to the largest that trains at all, within a factor of about two.",
    source="Bengio 2012, section 3.1.1 (arXiv:1206.5533)",
    refuted_if="the rate with the least training loss is below half of the largest whose loss over "
    "the last tenth is under 1.15 (half of chance), under any seed",
)


def trials(options: Options) -> list[Trial]:
    """All rates; the short form has one of them."""
    return [
        with_noise("rates", f"rate {rate:g}", rate, seed, options, hidden=[64])
        for rate in ((1.0,) if options.fast else RATES)
        for seed in options.range(3)
    ]


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether the best rate is near the cliff."""
    pairs = []
    for seed in dict.fromkeys(r.trial.labels["seed"] for r in results):
        losses = {
            r.trial.labels["rate"]: late_loss(r) for r in results if r.trial.labels["seed"] == seed
        }
        trains = [rate for rate, loss in losses.items() if loss < CHANCE / 2]
        pairs.append((min(losses, key=losses.__getitem__), max(trains, default=np.nan)))
    return judge(
        PREDICTION,
        all(best >= largest / 2 for best, largest in pairs),
        "best and largest rate, by seed: " + ", ".join(f"{b:g} and {a:g}" for b, a in pairs),
        options,
    )


def table(results: Sequence[Result]) -> Table:
    """Where each rate ends."""
    rows = []
    for arm in dict.fromkeys(r.trial.labels["arm"] for r in results):
        own = by_arm(results, arm)
        accuracies = [r.metrics["test/accuracy"] for r in own]
        rows.append(
            (
                f"{own[0].trial.labels['rate']:g}",
                loss_text([late_loss(r) for r in own]),
                f"{plus_minus(accuracies, '.1f', 100)} %",
            )
        )
    return Table(
        "The same training at eight rates, ten epochs each",
        ("rate", "training loss", "test accuracy"),
        rows,
        note=f"{over(len(results) // len(rows))} Training loss: mean of the last tenth; chance is "
        f"{CHANCE:.2f}.",
    )
