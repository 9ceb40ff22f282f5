"""Can clipping the gradient save a training that explodes?

A recurrent network whose recurrent matrix stretches what it passes on (spectral radius 1.5) learns
to add two numbers, at a learning rate at which it goes to NaN when its gradients are used as they
are. Beside it the same training with gradients clipped by norm or by value, at thresholds decades
apart, and at a tenth of the rate. What the predictions must keep was set by runs on seeds 101 and
102.
"""

from collections.abc import Callable, Sequence

import numpy as np

from experiments import configs
from experiments.figures.clipping import ARMS, COLOURS, NONE, NORM, SHOWN, SLOW, VALUE, Arm, figures
from experiments.measures import by_arm, late_loss
from experiments.statistics import over, plus_minus
from experiments.study import (
    Findings,
    Options,
    Plan,
    Prediction,
    Study,
    Table,
    Verdict,
    judge_all,
)
from experiments.trial import Result, Trial

RATE, SEQUENCE, RADIUS = 0.1, 8, 1.5
CHANCE = 1 / 6
LEARNED = 0.1
"""A mean squared error that only who has learned stays under."""

SAVES = Prediction(
    claim="Without clipping the loss leaves the range of numbers; clipped by norm at 1 or by value "
    "at 0.1 the same training, at the same rate, learns.",
    source="Pascanu, Mikolov & Bengio 2013, sections 2.3 and 3.2 (arXiv:1211.5063)",
    refuted_if="the unclipped loss is finite at the end, or a clipped one above 0.1 over the last "
    "tenth of the training (chance is 1/6), under any seed",
)
TURNS = Prediction(
    claim="Clipping by norm shortens the gradient and keeps its direction; clipping by value turns "
    "it.",
    source="Pascanu et al. 2013, algorithm 1; Goodfellow et al. 2016, section 10.11.1",
    refuted_if="a gradient clipped by norm at 1 is longer than 1.000001 or turned by more than "
    "1e-6 degrees at any step, or one clipped by value at 0.1 is turned by less than 5 degrees in "
    "the median of the steps, under any seed",
)
TOLERANT = Prediction(
    claim="A lower threshold costs little: at a tenth of what the gradient measures it learns as "
    "well.",
    source="Pascanu et al. 2013, section 3.2: not very sensitive to the threshold",
    refuted_if="clipped by norm at 0.1 or at 1 the loss over the last tenth of the training is "
    "above 0.1 under any seed, or the means of the two differ by more than a factor of 2",
)
HIGHER = Prediction(
    claim="Nor does a higher one: values up to ten times the average norm serve.",
    source="Pascanu et al. 2013, section 3.2: from half to ten times the average norm",
    refuted_if="clipped by norm at 10 (the gradient's median length is 1 to 2) the loss over the "
    "last tenth of the training is above 0.1 under any seed",
)
PREDICTIONS = (SAVES, TURNS, TOLERANT, HIGHER)


def trial(arm: Arm, seed: int, options: Options) -> Trial:
    """One training."""
    shown = arm in SHOWN
    clip = {"gradient_clip_val": arm.threshold, "gradient_clip_algorithm": arm.rule}
    rate, steps = arm.rate or RATE, 400
    if options.fast:  # at this rate the unclipped training gets to NaN in time
        rate, steps = (1.0, 100) if arm is NONE else (rate, 20)
    config = configs.fit(
        learner="lightning_modules.SequenceRegressor",
        network=configs.item(
            "lightning_modules.networks.Recurrent", kind="RNN", hidden=32, radius=RADIUS
        ),
        optimizer=configs.optimizer("SGD", options.backprop, lr=rate),
        data=configs.item("lightning_modules.data.Adding", steps=SEQUENCE, seed=seed),
        backprop=options.backprop,
        seed=seed,
        epochs=-1,
        evaluate_every=50,
        accelerator=options.accelerator,
        histograms_every=50 if shown else 0,
        trainer={"max_steps": steps, **(clip if arm.rule else {})},
        callbacks=[configs.item("experiments.training.clipped.Clipped")],
    )
    labels = {"phase": "clipping", "arm": arm.name, "rate": rate, "seed": seed}
    name = f"{arm.name.replace(', ', '-').replace(' ', '')}-seed{seed}-{options.backprop}"
    return Trial(name, labels, config, f"{arm.name}/seed{seed}-{options.backprop}" if shown else "")


def plan(options: Options) -> Plan:
    """Every arm on every seed."""
    results: list[Result] = yield [
        trial(arm, seed, options)
        for arm in (SHOWN if options.fast else ARMS)
        for seed in options.range(3)
    ]
    return Findings(
        verdicts=_verdicts(results, options),
        tables=[_table(results)],
        figures=figures(results),
        explanation=EXPLANATION,
    )


def _of(results: Sequence[Result], arm: str, measure: str) -> list[float]:
    """A number of each training of an arm."""
    measures: dict[str, Callable[[Result], float]] = {
        "late": late_loss,
        "highest": lambda result: _highest(result, "train/loss"),
        "longest": lambda result: _highest(result, "clip/after"),
        "usual": lambda result: float(np.nanmedian(result.curves["clip/before"])),
        "angle": lambda result: float(np.nanmedian(result.curves["clip/angle"])),
        "largest angle": lambda result: _highest(result, "clip/angle"),
    }
    return [measures[measure](result) for result in by_arm(results, arm)]


def _highest(result: Result, curve: str) -> float:
    return float(np.nanmax(result.curves[curve]))


def _verdicts(results: Sequence[Result], options: Options) -> list[Verdict]:
    late = {arm.name: _of(results, arm.name, "late") for arm in ARMS}
    lower, same, higher = (late[f"norm {t:g}"] for t in (0.1, 1, 10))
    gone = [first_not_finite(result) for result in by_arm(results, NONE.name)]
    straight = _of(results, NORM.name, "largest angle")
    turned = _of(results, VALUE.name, "angle")
    usual = _of(results, NORM.name, "usual")
    held = (
        None not in gone and max(late[NORM.name] + late[VALUE.name]) <= LEARNED,
        max(_of(results, NORM.name, "longest")) <= 1.000001
        and max(straight) <= 1e-6
        and min(turned) >= 5,
        bool(lower) and max(lower + same) <= LEARNED and _factor(lower, same) <= 2,
        bool(higher) and max(higher) <= LEARNED,
    )
    measured = (
        f"first step without a finite loss: {', '.join(map(str, gone))}; loss at the end: "
        f"{NORM.name} {np.mean(same):.3f}, {VALUE.name} {np.mean(late[VALUE.name]):.3f}",
        f"turned by norm: at most {max(straight):.0e} degrees; by value: {np.mean(turned):.0f} "
        "degrees in the median of the steps",
        f"loss at the end: {_losses('norm 0.1', lower)}, {_losses('norm 1', same)}; median length "
        f"of the gradient: {np.mean(usual):.1f}",
        f"loss at the end: {_losses('norm 10', higher)}, at worst {max(higher, default=np.nan):.3f}"
        if higher
        else "not run",
    )
    return judge_all(PREDICTIONS, held, measured, options, short=(TURNS,))


def first_not_finite(result: Result) -> int | None:
    """The first step, from 1, whose loss is not finite; None when all are."""
    steps = np.flatnonzero(~np.isfinite(result.curves["train/loss"]))
    return int(steps[0]) + 1 if steps.size else None


def _factor(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = sorted((float(np.mean(one)), float(np.mean(other))))
    return high / low


def _losses(name: str, found: Sequence[float]) -> str:
    return f"{name} {np.mean(found):.3f}" if found else f"{name} not run"


def _table(results: Sequence[Result]) -> Table:
    rows = []
    for arm in ARMS:
        own = by_arm(results, arm.name)
        if not own:
            continue
        gone = [step for result in own if (step := first_not_finite(result)) is not None]
        late = _of(results, arm.name, "late")
        rows.append(
            (
                arm.name,
                f"NaN from step {min(gone)}" if gone else _three(late),
                f"{max(_of(results, arm.name, 'highest')):.2g}",
                f"{np.median(_of(results, arm.name, 'usual')):.2g}",
                f"{max(_of(results, arm.name, 'longest')):.2g}",
                f"{np.median(_of(results, arm.name, 'angle')):.0f}°",
            )
        )
    return Table(
        f"An RNN with spectral radius {RADIUS:g} on the adding problem",
        ("clipping", "loss at the end", "highest", "length", "clipped", "turned"),
        rows,
        note=f"{over(len(by_arm(results, NONE.name)))} Loss: mean squared error of the last tenth "
        f"of the training and at its highest; chance is {CHANCE:.3f}. Length: of the gradient "
        "before clipping, median of the steps; clipped: the longest one that was used. Turned: "
        "angle between the two, median. NaN: the first such step under any seed.",
    )


def _three(late: Sequence[float]) -> str:
    return plus_minus(late, ".3f" if np.mean(late) < 10 else ".0f")


EXPLANATION = (
    "The unclipped loss does not jump to infinity at once. A step that is too long leaves the "
    "state saturated and the read-out too large; from there each step overshoots by more than the "
    "one before, and the loss grows by a constant factor a step until no number holds it. Clipping "
    "does not make the slope less steep; it bounds how far one step can be thrown.",
    "A tenth of the rate saves this training too. Clipping shortens only those steps that are too "
    "long, a small rate shortens all of them, so that it is behind at the end.",
    "A threshold of ten times the usual length still lets steps through that are as long as the "
    "weights can bear (10 times the rate is 1), and under one seed or another the training does "
    "not come back from one. Whoever chose the rate for that threshold would take a smaller one; "
    "here it is held where the unclipped training explodes. Tried as well: seeds 101 and 102, of "
    "which one learned.",
    "By value each of the numbers is cut on its own. The large ones lose and the small ones stay, "
    "so what is left points elsewhere, further the lower the threshold is.",
)


STUDY = Study(
    name="clipping",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"clipping": "none, by norm or by value: " + ", ".join(arm.name for arm in ARMS)},
    nuisance={
        "learning rate": f"{RATE:g} for all, at which the unclipped training explodes; "
        f"{SLOW.rate:g} in one arm beside it"
    },
    fixed={
        "data": f"the adding problem over {SEQUENCE} steps, 6400 sequences to train",
        "network": f"tanh RNN of 32 units, recurrent matrix of spectral radius {RADIUS:g}",
        "optimizer": "SGD without momentum",
        "batch": "32",
        "length": "400 steps",
        "precision": "float64",
    },
    metric="mean squared error over the last tenth of the training; length and direction of the "
    "gradient before and after clipping",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
)
