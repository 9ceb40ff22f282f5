"""The adding problem: by RNN, GRU and LSTM, and by a GRU on truncated gradients."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import configs
from experiments.figures.bptt import COLOURS, KINDS, STEPS, TRUNCATED
from experiments.measures import by_arm
from experiments.parts.bptt import configuration, each, means, reached, test_error, through_time
from experiments.statistics import over, plus_minus
from experiments.study import Backprop, Options, Prediction, Table, Verdict, judge
from experiments.trial import Result, Trial

RATES = {
    "adding RNN": (0.001, 0.003, 0.01),
    "adding GRU": (0.01, 0.03, 0.1),
    "adding LSTM": (0.003, 0.01, 0.03),
}
LEARNED, BLIND = 0.05, 0.15
"""Test errors: at most, at least; one who knows nothing has 1/6 = 0.167."""

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


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on the adding problem; the arm is "RNN", "GRU", "LSTM" or one of TRUNCATED."""
    final, kind = phase == "adding", arm.partition(",")[0]
    network = {"kind": kind, "hidden": 16, **({"forget_bias": 3.0} if kind == "LSTM" else {})}
    config = configuration(
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


def trials(best: Mapping[str, float], options: Options) -> list[Trial]:
    """Each network at its best rate, a truncated GRU at the GRU's."""
    arms = ("RNN", "GRU", "GRU, k = 10") if options.fast else (*KINDS, *TRUNCATED)
    return [
        trial(
            arm, best[f"adding {arm.partition(',')[0]}"], seed, options.backprop, options, "adding"
        )
        for arm in arms
        for seed in options.range(3)
    ]


def reached_at_the_end(result: Result) -> float:
    """What of the gradient at the last state arrives at the first, after training."""
    return float(result.curves["state/end"][0])


def verdicts(results: Sequence[Result], options: Options) -> list[Verdict]:
    """Whether the gated networks alone learn it, and a truncated gradient teaches it."""
    errors = {arm: each(results, arm, test_error) for arm in COLOURS}
    learners = errors["GRU"] + errors["LSTM"]
    return [
        judge(
            REMEMBERS,
            min(errors["RNN"]) >= BLIND and max(learners) <= LEARNED,
            f"test error: {means({kind: errors[kind] for kind in KINDS}, '.4f')}",
            options,
        ),
        judge(
            BLINDS,
            min(errors["GRU, k = 10"]) >= BLIND
            and max(errors["GRU, k = 15"], default=1) <= LEARNED,
            f"test error: {means({arm: errors[arm] for arm in TRUNCATED}, '.4f')}",
            options,
        ),
    ]


def table(results: Sequence[Result]) -> Table:
    """Test error of each network, and what of the gradient arrives."""
    rows = []
    for arm in COLOURS:
        if own := by_arm(results, arm):
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
        note=f"{over(len(by_arm(results, 'GRU')))} Test error: mean squared; chance: 0.1667. "
        "At the start and at the end of the training: length of dL/dh_0 over that of dL/dh_"
        f"{STEPS}, what of the last gradient arrives at the first state (full, also where the "
        "training truncates it).",
    )
