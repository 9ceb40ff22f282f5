"""Next year's sunspots: by RNN, GRU and LSTM, and by two forecasts that need no network."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import configs
from experiments.figures.bptt import KINDS, errors
from experiments.measures import by_arm, costs
from experiments.parts.bptt import configuration, each, means, test_error
from experiments.statistics import plus_minus
from experiments.study import Backprop, Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

RATES = {
    "sunspots RNN": (0.01, 0.03, 0.1),
    "sunspots GRU": (0.003, 0.01, 0.03),
    "sunspots LSTM": (0.003, 0.01, 0.03),
}

BEATS = Prediction(
    claim="A recurrent network foresees next year's sunspots better than who says: as this year.",
    source="Weigend, Huberman & Rumelhart 1990, Predicting the Future",
    refuted_if="of the network with the least validation error while tuning, the mean squared "
    "error over 1956 to 2008 is above 0.7 of that of persistence under any seed",
)
LINEAR = Prediction(
    claim="And better than a linear autoregression.",
    source="Weigend et al. 1990 (of a feed-forward network, up to 1979)",
    refuted_if="of the same network, the mean error over the seeds is not below that of the "
    "autoregression",
)


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on the sunspots; the arm is the kind of network."""
    final = phase == "sunspots"
    config = configuration(
        network={"kind": arm, "in_features": 1, "hidden": 8},
        data=configs.item("lightning_modules.data.Sunspots", window=22, seed=seed),
        optimizer=configs.optimizer("Adam", backprop, lr=rate),
        backprop=backprop,
        seed=seed,
        steps=20 if options.fast else 400,
        options=options,
        callbacks=[configs.item("experiments.training.forecast.Forecast")] if final else [],
    )
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    return Trial(f"{phase}-{arm}-lr{rate:g}-seed{seed}-{backprop}", labels, config)


def trials(best: Mapping[str, float], options: Options) -> list[Trial]:
    """Each network at its best rate; the short form has the RNN."""
    return [
        trial(arm, best[f"sunspots {arm}"], seed, options.backprop, options, "sunspots")
        for arm in (("RNN",) if options.fast else KINDS)
        for seed in options.range(3)
    ]


def chosen(tuning: Sequence[Result]) -> str:
    """The kind of network that forecast the validation part best while tuning."""
    kinds = [kind for kind in KINDS if by_arm(tuning, f"sunspots {kind}")]
    return min(
        kinds, key=lambda kind: min(map(min, costs(by_arm(tuning, f"sunspots {kind}")).values()))
    )


def verdicts(results: Sequence[Result], kind: str, options: Options) -> list[Verdict]:
    """Whether the network that was chosen is ahead of persistence and of the autoregression."""
    foreseen = {arm: each(results, arm, test_error) for arm in KINDS}
    _, persistence, linear = errors(results[0])
    return [
        judge(
            BEATS,
            max(foreseen[kind]) <= 0.7 * persistence,
            f"over the error of persistence: {means(foreseen, '.2f', scale=1 / persistence)}; "
            f"chosen: {kind}",
            options,
        ),
        judge(
            LINEAR,
            float(np.mean(foreseen[kind])) < linear,
            f"mean squared error in variances of the training years: {kind} "
            f"{np.mean(foreseen[kind]):.3f}, autoregression {linear:.3f}",
            options,
        ),
    ]


def table(results: Sequence[Result]) -> Table:
    """The test error of every forecast."""
    _, persistence, linear = errors(results[0])
    deviation = results[0].curves["forecast/deviation"][0]
    order = int(results[0].curves["forecast/order"][0])
    rows = [
        (name, "", f"{error:.3f}", f"{deviation * error**0.5:.1f}")
        for name, error in (("persistence", persistence), (f"autoregression ({order})", linear))
    ]
    for kind in KINDS:
        if own := by_arm(results, kind):
            found = [test_error(r) for r in own]
            rate = f"{own[0].trial.labels['rate']:g}"
            root = [deviation * error**0.5 for error in found]
            rows.append((kind, rate, plus_minus(found, ".3f"), plus_minus(root, ".1f")))
    return Table(
        "Next year's sunspots, 1956 to 2008, from the 22 years before",
        ("forecast", "lr", "squared error", "root, in sunspots"),
        rows,
        note="Squared error: mean, in variances of the years to 1920. Persistence: as this year. "
        "Autoregression: least squares, its order chosen on 1921 to 1955, as are the rates.",
    )
