"""Which optimizer gets there first: do Momentum and Adam beat SGD, and does AdaGrad slow down?

Every optimizer trains the same small network on the same digits, each at the learning rate that
suits it best. The rates are tuned on seeds that are not used again; the thresholds below were set
by runs on other seeds still (101 and 102). Three shorter parts follow: larger images, the whole
training part in every step, and a convex problem on which Adam fails.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import agreement, configs
from experiments.figures import optimizers as figures
from experiments.measures import basin, by_arm, late_loss, step_shrinkage, steps_to
from experiments.parts.optimizers import ARMS, TARGET, ahead, full_batch, mnist5k, named, reddi
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
from experiments.tuning import at_an_end, best_rates, tune

TUNING_SEEDS = (1000, 1001)

FASTER = Prediction(
    claim="Momentum and Adam converge faster than SGD.",
    source="Sutskever et al. 2013 (ICML); Kingma & Ba 2015, section 6 (arXiv:1412.6980)",
    refuted_if="either needs more than 0.8 of SGD's steps to 90 % validation accuracy, as a mean "
    "over the seeds, or more steps than SGD under any seed",
)
SMALLER = Prediction(
    claim="AdaGrad's steps shrink: its accumulated squares only grow.",
    source="Duchi et al. 2011 (JMLR 12); Zeiler 2012, section 3.1 (arXiv:1212.5701)",
    refuted_if="the step's length over the gradient's, in the last tenth of the training over the "
    "first, exceeds 0.75 for AdaGrad or is not below RMSprop's, which forgets old squares",
)
SLOWER = Prediction(
    claim="AdaGrad therefore slows later: ahead of SGD at first, behind it in the end.",
    source="Goodfellow et al. 2016, Deep Learning, section 8.5.1",
    refuted_if="AdaGrad does not reach 90 % before SGD, or its training loss over the last tenth "
    "of the training is below SGD's",
)
ROBUST = Prediction(
    claim="Adam forgives a wrong learning rate more than SGD does.",
    source="Goodfellow et al. 2016, section 8.5.3; asked again by Schmidt et al. 2021, section 4 "
    "(arXiv:2007.01547)",
    refuted_if="the rates that cost at most 1.2 times the best one's mean validation loss over the "
    "training span fewer decades for Adam than for SGD, on the tuning runs",
)


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of the network with one optimizer; the final ones are logged."""
    arm = named(name)
    final = phase == "final"
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP", in_features=64, hidden=[64], out_features=10
        ),
        optimizer=configs.optimizer(arm.cls, backprop, lr=rate, **arm.arguments),
        data=configs.item("lightning_modules.data.Digits", batch_size=64, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=3 if options.fast else 30,
        evaluate_every=5 if final or options.fast else 10,
        accelerator=options.accelerator,
        histograms_every=50 if final else 0,
    )
    labels = {"phase": phase, "arm": arm.name, "rate": rate, "seed": seed}
    title = f"{phase}-{arm.name}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{arm.name}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Tune, widen the grid where the best rate is its last, then compare."""
    rates = {arm.name: arm.rates for arm in ARMS}
    tuning = yield from tune(trial, rates, options, seeds=TUNING_SEEDS, widen=2)
    best = best_rates(tuning)
    final: list[Result] = yield [
        trial(arm.name, best[arm.name], seed, options.backprop, options, "final")
        for arm in ARMS
        for seed in options.range(3)
    ]
    parts = []
    for part in (mnist5k, full_batch, reddi):
        parts.append((yield from part.plan(options)))
    return Findings(
        verdicts=[*_verdicts(tuning, final, options), *(part.verdict for part in parts)],
        tables=[
            _comparison(final, agreement.pairs(final), best),
            _dynamics(final),
            _robustness(tuning, best),
            *(part.table for part in parts),
        ],
        figures=[
            *figures.figures(tuning, final, best),
            *(part.figure for part in parts if part.figure is not None),
        ],
        warnings=[*at_an_end(tuning, options), *(line for part in parts for line in part.warnings)],
        explanation=[full_batch.SHORT_LIVED],
    )


def _comparison(
    shown: Sequence[Result], matched: Sequence[agreement.Pair], best: Mapping[str, float]
) -> Table:
    rows = []
    for name, rate in best.items():
        trained = by_arm(shown, name)
        own = [pair for pair in matched if pair.result.trial.labels["arm"] == name]
        accuracies = [result.metrics["test/accuracy"] for result in trained]
        rows.append(
            (
                name,
                f"{rate:g}",
                _steps([steps_to(TARGET, result) for result in trained]),
                plus_minus(accuracies, ".1f", scale=100) + " %",
                *(
                    agreement.text(max(getattr(pair, what) for pair in own))
                    if own
                    else "not compared"
                    for what in ("loss", "weights")
                ),
            )
        )
    seeds = len(shown) // len(best)
    return Table(
        "Seven optimizers on digits, each at its own learning rate",
        ("optimizer", "tuned lr", "steps to 90 %", "test accuracy", "Δ loss", "Δ weights"),
        rows,
        note=f"{over(seeds)} "
        "Δ is the largest relative difference between training by hand and by autograd: of the "
        "loss and of a layer's weights, at any step.",
    )


def _dynamics(shown: Sequence[Result]) -> Table:
    rows = []
    for arm in ARMS:
        trained = by_arm(shown, arm.name)
        late = np.mean([late_loss(result) for result in trained])
        shrunk = np.mean([step_shrinkage(result) for result in trained])
        rows.append((arm.name, f"{late:.2g}", f"{shrunk:.2f}"))
    return Table(
        "How they go on",
        ("optimizer", "training loss, last tenth", "step size, last tenth over first"),
        rows,
        note="Means over the seeds. The step size is the length of the weights' step over the "
        "length of the gradient; for plain SGD it is the learning rate, so the last column is 1.",
    )


def _robustness(tuning: Sequence[Result], best: Mapping[str, float]) -> Table:
    rows = []
    for name, rate in best.items():
        width, closed = basin(by_arm(tuning, name))
        rows.append((name, f"{rate:g}", f"{'' if closed else 'at least '}{width:.2f}"))
    return Table(
        "How exactly must the learning rate be known?",
        ("optimizer", "best lr", "decades within 20 % of it"),
        rows,
        note="Decades of learning rates whose mean validation loss over the training is at most "
        "1.2 times the best one's, from the tuning runs; between two rates along a line.",
    )


def _steps(steps: Sequence[float]) -> str:
    reached = [step for step in steps if np.isfinite(step)]
    if len(reached) < len(steps):
        return f"reached in {len(reached)} of {len(steps)}"
    return plus_minus(steps, ".0f")


def _verdicts(tuning: Sequence[Result], shown: Sequence[Result], options: Options) -> list[Verdict]:
    steps = {arm.name: [steps_to(TARGET, r) for r in by_arm(shown, arm.name)] for arm in ARMS}
    late = {arm.name: [late_loss(r) for r in by_arm(shown, arm.name)] for arm in ARMS}
    shrunk = {
        arm.name: float(np.mean([step_shrinkage(r) for r in by_arm(shown, arm.name)]))
        for arm in ARMS
    }
    mean = {name: float(np.mean(values)) for name, values in steps.items()}
    smaller = shrunk["AdaGrad"] <= 0.75 and shrunk["AdaGrad"] < shrunk["RMSprop"]
    ends = {name: float(np.mean(values)) for name, values in late.items()}
    widths = {name: basin(by_arm(tuning, name))[0] for name in ("SGD", "Adam")}
    slower = mean["AdaGrad"] < mean["SGD"] and ends["AdaGrad"] > ends["SGD"]
    return [
        judge(
            FASTER,
            ahead(steps, ("Momentum", "Adam")),
            f"steps to 90 %: SGD {mean['SGD']:.0f}, Momentum {mean['Momentum']:.0f}, "
            f"Adam {mean['Adam']:.0f}",
            options,
            short=True,
        ),
        judge(
            SMALLER,
            smaller,
            f"step size, last tenth over first: AdaGrad {shrunk['AdaGrad']:.2f}, "
            f"RMSprop {shrunk['RMSprop']:.2f}",
            options,
        ),
        judge(
            SLOWER,
            slower,
            f"steps to 90 %: AdaGrad {mean['AdaGrad']:.0f}, SGD {mean['SGD']:.0f}; training loss "
            f"at the end: AdaGrad {ends['AdaGrad']:.2g}, SGD {ends['SGD']:.2g}",
            options,
        ),
        judge(
            ROBUST,
            widths["Adam"] >= widths["SGD"],
            f"decades within 20 % of the best: Adam {widths['Adam']:.2f}, SGD {widths['SGD']:.2f}",
            options,
        ),
    ]


STUDY = Study(
    name="optimizers",
    question=(__doc__ or "").partition("\n")[0],
    predictions=(
        FASTER,
        SMALLER,
        SLOWER,
        ROBUST,
        *(part.PREDICTION for part in (mnist5k, full_batch, reddi)),
    ),
    scientific={
        "optimizer": ", ".join(arm.name for arm in ARMS)
        + "; L-BFGS on the whole training part; AMSGrad on a convex problem"
    },
    nuisance={
        "learning rate": "tuned for each optimizer on a grid 1, 3, 10, ... by the mean validation "
        f"loss over the training, on seeds {TUNING_SEEDS[0]} and {TUNING_SEEDS[1]}; a grid whose "
        "last rate is best is widened"
    },
    fixed={
        "data": f"{configs.DIGITS}; MNIST-5k: 3500, 500, 1000",
        "network": "64-64-10 with ReLU; 784-64-10 for MNIST-5k",
        "batch": "64",
        "length": "30 epochs, 570 steps; evaluated every 5 steps, while tuning every 10",
        "other arguments": "momentum 0.9 for Momentum and Nesterov; AdamW decays weights by 0.01; "
        "else torch's defaults",
        "precision": "float64",
    },
    metric="steps to 90 % validation accuracy; test accuracy and training loss beside it",
    seeds="0, 1, 2 (weights and order of the batches); the test part is always the same",
    plan=plan,
    arms={**figures.COLOURS, **figures.OTHERS},
)
