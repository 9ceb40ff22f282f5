"""What becomes of a gradient on its way back through time?

Four parts. A tanh RNN is looked at before its first step, its recurrent matrix scaled to four
spectral radii. RNN, GRU and LSTM learn the adding problem, each at the learning rate that suits it
best. A GRU learns it on gradients truncated to fewer steps than the answer needs, and to enough of
them. And all three forecast the yearly number of sunspots, beside two forecasts that need no
network. The thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import configs
from experiments.figures.bptt import (
    COLOURS,
    KINDS,
    LENGTHS,
    RADII,
    STEPS,
    TRUNCATED,
    Parts,
    errors,
    figures,
    radius_arm,
)
from experiments.measures import by_arm, costs
from experiments.statistics import over, plus_minus
from experiments.study import (
    Backprop,
    Findings,
    Options,
    Plan,
    Prediction,
    Study,
    Table,
    Verdict,
    judge,
)
from experiments.trial import Result, Trial
from experiments.tuning import SEED, at_an_end, best_rates, tune

LENGTH = 50
"""Steps of a sequence for the spectral radii."""
RATES = {
    "adding RNN": (0.001, 0.003, 0.01),
    "adding GRU": (0.01, 0.03, 0.1),
    "adding LSTM": (0.003, 0.01, 0.03),
    "sunspots RNN": (0.01, 0.03, 0.1),
    "sunspots GRU": (0.003, 0.01, 0.03),
    "sunspots LSTM": (0.003, 0.01, 0.03),
}
LEARNED, BLIND = 0.05, 0.15
"""Test errors of the adding problem: at most, at least; one who knows nothing has 1/6 = 0.167."""

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
REMEMBERS = Prediction(
    claim="What was said ten steps ago is lost on a tanh RNN; a GRU and an LSTM learn to keep it.",
    source="Hochreiter & Schmidhuber 1997, experiment 4; Cho et al. 2014 (arXiv:1406.1078)",
    refuted_if="the test error on the adding problem is below 0.15 for the RNN (chance is 0.167), "
    "or above 0.05 for GRU or LSTM, under any seed",
)
BLINDS = Prediction(
    claim="A gradient truncated to fewer steps than the lag cannot teach what lies before them: "
    "the same GRU stays at chance on 10 steps of 20, and learns on 15.",
    source="Williams & Peng 1990",
    refuted_if="the test error is below 0.15 at k = 10, where both numbers lie before the last 10 "
    "steps, or above 0.05 at k = 15, where they do in part, under any seed",
)
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
PREDICTIONS = (EXPLODES, LOSES, REMEMBERS, BLINDS, BEATS, LINEAR)


def learning(
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


def radius_trial(radius: float, seed: int, options: Options) -> Trial:
    """One step of an RNN of that spectral radius, whose first gradient is looked at."""
    config = learning(
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


def adding_trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on the adding problem; the arm is "RNN", "GRU", "LSTM" or one of TRUNCATED."""
    final, kind = phase == "adding", arm.partition(",")[0]
    network = {"kind": kind, "hidden": 16, **({"forget_bias": 3.0} if kind == "LSTM" else {})}
    config = learning(
        network=network,
        data=configs.item("lightning_modules.data.Adding", steps=STEPS, seed=seed),
        optimizer=configs.optimizer("Adam", backprop, lr=rate),
        backprop=backprop,
        seed=seed,
        steps=20 if options.fast else 500,
        options=options,
        histograms_every=50 if final else 0,
        trainer={"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm"},
        callbacks=[through_time(STEPS)] if final else [],
        **({"truncate": TRUNCATED[arm]} if arm in TRUNCATED else {}),
    )
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    name = f"{phase}-{arm.replace(', k = ', '-k')}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(name, labels, config, f"adding {arm}/seed{seed}-{backprop}" if final else "")


def sunspots_trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on the sunspots; the arm is the kind of network."""
    final = phase == "sunspots"
    config = learning(
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


def tuning_trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training that tunes; the arm is one of RATES, a task and a kind of network."""
    task, kind = arm.split()
    make = adding_trial if task == "adding" else sunspots_trial
    made = make(kind, rate, seed, backprop, options, phase)
    return Trial(f"{task}-{made.name}", {**made.labels, "arm": arm}, made.config)


def plan(options: Options) -> Plan:
    """Look at the first gradients; tune; then learn to add, and to forecast."""
    fast = options.fast
    seeds = options.range(3)
    radius: list[Result] = yield [
        radius_trial(r, seed, options) for r in ((0.5, 1.5) if fast else RADII) for seed in seeds
    ]
    tuned = ("adding GRU", "sunspots RNN") if fast else tuple(RATES)
    tuning = yield from tune(tuning_trial, {arm: RATES[arm] for arm in tuned}, options)
    best = {arm: rates[1] for arm, rates in RATES.items()} | best_rates(tuning)
    adding: list[Result] = yield [
        adding_trial(
            arm, best[f"adding {arm.partition(',')[0]}"], seed, options.backprop, options, "adding"
        )
        for arm in (("RNN", "GRU", "GRU, k = 10") if fast else (*KINDS, *TRUNCATED))
        for seed in seeds
    ]
    sunspots: list[Result] = yield [
        sunspots_trial(arm, best[f"sunspots {arm}"], seed, options.backprop, options, "sunspots")
        for arm in (("RNN",) if fast else KINDS)
        for seed in seeds
    ]
    parts = Parts(radius, adding, sunspots, chosen(tuning))
    return Findings(
        verdicts=_verdicts(parts, options),
        tables=[_adding(parts), _radius(parts), _sunspots(parts)],
        figures=figures(parts),
        explanation=EXPLANATION,
        warnings=at_an_end(tuning, options),
    )


def chosen(tuning: Sequence[Result]) -> str:
    """The kind of network that forecast the sunspots of the validation part best while tuning."""
    kinds = [kind for kind in KINDS if by_arm(tuning, f"sunspots {kind}")]
    return min(
        kinds, key=lambda kind: min(map(min, costs(by_arm(tuning, f"sunspots {kind}")).values()))
    )


def _each(results: Sequence[Result], arm: str, read: Callable[[Result], float]) -> list[float]:
    return [read(result) for result in by_arm(results, arm)]


def reached(result: Result) -> float:
    """What of the gradient at the last state arrives at the first, before training."""
    return float(result.curves["state/start"][0])


def reached_at_the_end(result: Result) -> float:
    """The same after it."""
    return float(result.curves["state/end"][0])


def lost(result: Result) -> float:
    """The relative error of the gradient that is truncated to 10 steps, before training."""
    return float(result.curves["truncated/error/start"][LENGTHS.index(10)])


def test_error(result: Result) -> float:
    """The mean squared error of the test part."""
    return float(result.metrics["test/loss"])


def _verdicts(parts: Parts, options: Options) -> list[Verdict]:
    arrives = {r: _each(parts.radius, radius_arm(r), reached) for r in RADII}
    cut = {r: _each(parts.radius, radius_arm(r), lost) for r in RADII}
    added = {arm: _each(parts.adding, arm, test_error) for arm in COLOURS}
    foreseen = {kind: _each(parts.sunspots, kind, test_error) for kind in KINDS}
    _, persistence, linear = errors(parts.sunspots[0])
    learners = added["GRU"] + added["LSTM"]
    held = (
        max(arrives[0.5]) <= 1e-12
        and max(arrives[0.9], default=0) <= 0.01
        and min(arrives[1.5]) >= 1,
        max(cut[0.5]) <= 1e-3 and min(cut[1.5]) >= 0.5,
        min(added["RNN"]) >= BLIND and max(learners) <= LEARNED,
        min(added["GRU, k = 10"]) >= BLIND and max(added["GRU, k = 15"], default=1) <= LEARNED,
        max(foreseen[parts.chosen]) <= 0.7 * persistence,
        float(np.mean(foreseen[parts.chosen])) < linear,
    )
    measured = (
        f"dL/dh_0 over dL/dh_{LENGTH}: {_means(arrives, '.1e', 'radius ')}",
        f"relative error: {_means(cut, '.1e', 'radius ')}",
        f"test error: {_means({kind: added[kind] for kind in KINDS}, '.4f')}",
        f"test error: {_means({arm: added[arm] for arm in TRUNCATED}, '.4f')}",
        f"over the error of persistence: {_means(foreseen, '.2f', scale=1 / persistence)}; "
        f"chosen: {parts.chosen}",
        f"mean squared error in variances of the training years: {parts.chosen} "
        f"{np.mean(foreseen[parts.chosen]):.3f}, autoregression {linear:.3f}",
    )
    return [
        judge(prediction, holds, text, options, short=prediction in (EXPLODES, LOSES))
        for prediction, holds, text in zip(PREDICTIONS, held, measured, strict=True)
    ]


def _means(
    found: Mapping[Any, Sequence[float]], form: str, before: str = "", scale: float = 1.0
) -> str:
    return ", ".join(
        f"{before}{name} {np.mean(values) * scale:{form}}"
        for name, values in found.items()
        if values
    )


def _adding(parts: Parts) -> Table:
    rows = []
    for arm in COLOURS:
        if own := by_arm(parts.adding, arm):
            rows.append(
                (
                    arm,
                    f"{own[0].trial.labels['rate']:g}",
                    plus_minus([test_error(r) for r in own], ".4f"),
                    f"{np.median([reached(r) for r in own]):.1e}",
                    f"{np.median([reached_at_the_end(r) for r in own]):.1e}",
                )
            )
    return Table(
        f"The adding problem over {STEPS} steps",
        ("network", "lr", "test error", "at the start", "at the end"),
        rows,
        note=f"{over(len(by_arm(parts.adding, 'GRU')))} Test error: mean squared; chance: 0.1667. "
        "At the start and at the end of the training: length of dL/dh_0 over that of dL/dh_"
        f"{STEPS}, what of the last gradient arrives at the first state (full, also where the "
        "training truncates it).",
    )


def _radius(parts: Parts) -> Table:
    rows = [
        (
            f"{r:g}",
            f"{np.median([reached(result) for result in own]):.1e}",
            *(f"{_median(own, k):.1e}" for k in (1, 5, 10, 20)),
        )
        for r in RADII
        if (own := by_arm(parts.radius, radius_arm(r)))
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


def _sunspots(parts: Parts) -> Table:
    _, persistence, linear = errors(parts.sunspots[0])
    deviation = parts.sunspots[0].curves["forecast/deviation"][0]
    order = int(parts.sunspots[0].curves["forecast/order"][0])
    rows = [
        (name, "", f"{error:.3f}", f"{deviation * error**0.5:.1f}")
        for name, error in (("persistence", persistence), (f"autoregression ({order})", linear))
    ]
    for kind in KINDS:
        if own := by_arm(parts.sunspots, kind):
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


EXPLANATION = (
    "Every step back multiplies the gradient by the recurrent matrix, transposed, and by the slope "
    "of the tanh, which is at most 1. So a small radius makes it vanish, and a large one only "
    "permits it to explode: saturated units may hold it down.",
    "A GRU and an LSTM carry the state past the matrix: what the gate lets through is multiplied "
    "by a number near 1 instead. The LSTM's forget gates start open here (bias 3); half open, it "
    "did not begin to learn within 1200 steps (seed 101, rates 0.003 and 0.01).",
    "A network with a truncated gradient computes the same output from the same weights; nobody "
    "hides the past from it. It is only never told that the past would have helped.",
    "The sunspots are 221 years to learn from, and the cycles after 1956 are higher than any "
    "before. Few numbers, a nearly linear process and a shift: the case in which a linear model "
    "with a handful of weights is hard to beat.",
)


STUDY = Study(
    name="bptt",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={
        "spectral radius": ", ".join(f"{r:g}" for r in RADII),
        "network": "RNN (tanh), GRU, LSTM",
        "truncation": "to 10 and to 15 of 20 steps, and none",
    },
    nuisance={
        "learning rate": "tuned for each network and task by the mean validation loss over the "
        f"training, on seed {SEED}: " + "; ".join(f"{arm} {rates}" for arm, rates in RATES.items())
    },
    fixed={
        "adding problem": "50 steps for the radii, 20 for the trainings; 6400 sequences",
        "sunspots": "1700 to 1920 to train, to 1955 to validate, to 2008 to test; windows of 22",
        "networks": "64 units for the radii, 16 to add, 8 to forecast; forget bias 3 to add",
        "optimizer": "Adam, batches of 32; clipped by norm at 1 to add",
        "length": "500 steps to add, 400 to forecast",
        "precision": "float64",
    },
    metric="length of the gradient at each state; relative error and cosine of truncated "
    "gradients; mean squared test error",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
    needs={"statsmodels": "sunspots"},
)
