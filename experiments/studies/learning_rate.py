"""How large may a learning rate be, and should it stay the same?

Five experiments on digits. A quadratic, where theory is exact. A small network without noise, whose
curvature adapts to the rate. The same question for an ordinary training, from a rate that is far
too low to one that diverges; schedules that lower the rate; and one that begins low. The thresholds
were set by runs on seeds 101 and 102.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import configs
from experiments.figures import learning_rate as figures
from experiments.measures import by_arm, late_loss, second_order
from experiments.statistics import over, plus_minus
from experiments.study import (
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

CHANCE = float(np.log(10))
"""The loss of a classifier that knows nothing: ten equal probabilities."""

PRODUCTS = {"1.95/sharpness": 1.95, "2.05/sharpness": 2.05}
"""The rate times the sharpness, on the quadratic."""

EDGES = {"rate 0.1": 0.1, "rate 0.5": 0.5, "rate 0.7": 0.7}
RATES = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
LOOK, WARM_LOOK = 25, 10
"""Steps from one measurement of the sharpness to the next."""

SHAPES = ("constant", "1/sqrt", "step", "cosine")
WARMUPS = {"no warm-up": 0, "warm-up": 95}

BOUND = Prediction(
    claim="On a quadratic, gradient descent is stable below 2/sharpness and diverges above it, by "
    "the factor (1 - rate x sharpness)^2 a step.",
    source="LeCun et al. 1998, Efficient BackProp, section 5.1; Goodfellow et al. 2016, section "
    "4.3.1",
    refuted_if="at 1.95/sharpness the loss of a linear model ever rises, or at 2.05/sharpness its "
    "last step does not multiply it by 1.1025 to 1 %, under any seed",
)
EDGE = Prediction(
    claim="Trained without noise, a network becomes sharper until it is at the edge of stability: "
    "its sharpness then hovers at 2/rate, and the loss goes up and down, and still falls.",
    source="Cohen et al. 2021, section 3 (arXiv:2103.00065)",
    refuted_if="the mean sharpness over the last third of 700 steps is not 0.95 to 1.15 of 2/rate "
    "at rate 0.5 or 0.7; or fewer than 5 % of the last half's steps raise the "
    "loss; or the loss at the end is not below 0.9 of that at half the training; under any seed",
)
LARGEST = Prediction(
    claim="The best rate is close to the largest that trains at all, within a factor of about two.",
    source="Bengio 2012, section 3.1.1 (arXiv:1206.5533)",
    refuted_if="the rate with the least training loss is below half of the largest whose loss over "
    "the last tenth is under 1.15 (half of chance), under any seed",
)
DECAYS = Prediction(
    claim="A rate that falls ends lower than the same rate held: noise keeps a constant one at a "
    "distance from the minimum.",
    source="Robbins & Monro 1951; Bottou et al. 2018, section 4.2 (arXiv:1606.04838)",
    refuted_if="the training loss at the end is not below that of the constant rate for 1/sqrt, "
    "step and cosine, as a mean over the seeds",
)
WARM = Prediction(
    claim="Warm-up trains at a rate that fails without it: the sharpness of the first weights is "
    "too large for the rate, and falls while the rate is small.",
    source="Goyal et al. 2017, section 2.2 (arXiv:1706.02677); Gilmer et al. 2021 "
    "(arXiv:2110.04369)",
    refuted_if="the training loss over the last tenth is below 1.15 without warm-up or above 0.5 "
    "with it, or 2/rate is not below the sharpness at the start, under any seed",
)


EXPLANATION = (
    "A step of gradient descent multiplies what lies along an eigenvector of the Hessian by 1 - "
    "rate x eigenvalue. At rate x sharpness = 2 the factor of the steepest direction is -1; beyond "
    "that each step overshoots by more than the last. For a linear model on the squared error that "
    "is all there is: the first rates are chosen from the sharpness that was measured before.",
    "A network is no quadratic. Its sharpness grows while it trains, until the rate is too large "
    "for it; the overshoot then carries the weights to where the walls are less steep, and that "
    "holds the sharpness at 2/rate. A larger rate does not only go faster, it ends elsewhere.",
    "Schedules are tried where there is noise to escape from: a linear model cannot fit all "
    "digits, so that single batches go on disagreeing about the best weights. Where samples can be "
    "fitted, a falling rate may cost more progress than it gains: on the cross-entropy of a linear "
    "classifier, batches of 8, rates 0.3 and 1, the constant rate ended lowest within ten epochs "
    "(seeds 101 and 102).",
)


def _without_noise(
    part: str, arm: str, rate: float, seed: int, options: Options, hidden: Sequence[int], steps: int
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
            centred=part == "edge",
        ),
        backprop=options.backprop,
        seed=seed,
        epochs=1,
        evaluate_every=steps,
        accelerator=options.accelerator,
        callbacks=[configs.item("experiments.training.sharpness.Sharpness", every_n_steps=LOOK)],
    )
    return _named(part, arm, rate, seed, options, config)


def _with_noise(
    part: str,
    arm: str,
    rate: float,
    seed: int,
    options: Options,
    *,
    epochs: int,
    batch: int = 64,
    learner: str = "lightning_modules.Classifier",
    shape: str = "constant",
    warmup: int = 0,
    **network: Any,
) -> Trial:
    """Stochastic gradient descent on 1200 digits."""
    callbacks = [
        configs.item("experiments.training.schedule.Schedule", shape=shape, warmup=warmup),
        configs.item(
            "experiments.training.sharpness.Sharpness",
            every_n_steps=WARM_LOOK if part == "warm-up" else 0,
        ),
    ]
    config = configs.fit(
        learner=learner,
        network=configs.item("lightning_modules.networks.MLP", **network),
        optimizer=configs.optimizer("SGD", options.backprop, lr=rate, momentum=0.0),
        data=configs.item("lightning_modules.data.Digits", batch_size=batch, seed=seed),
        backprop=options.backprop,
        seed=seed,
        epochs=epochs,
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


def plan(options: Options) -> Plan:
    """Measure the quadratic's sharpness first, because its rates are chosen by it."""
    seeds, fast = options.range(3), options.fast
    (measured,) = yield [_without_noise("sharpness", "linear", 1e-3, 0, options, (), 1)]
    sharpness = float(measured.curves["sharpness/value"][0])
    quadratic = yield [
        _without_noise(
            "quadratic", arm, float(f"{c / sharpness:.6g}"), seed, options, (), 60 if fast else 150
        )
        for arm, c in PRODUCTS.items()
        for seed in seeds
    ]
    edge = yield [
        _without_noise("edge", arm, rate, seed, options, (64, 64), 40 if fast else 700)
        for arm, rate in (list(EDGES.items())[1:2] if fast else EDGES.items())
        for seed in seeds
    ]
    sweep = yield [
        _with_noise(
            "rates", f"rate {rate:g}", rate, seed, options, epochs=1 if fast else 10, hidden=[64]
        )
        for rate in ((1.0,) if fast else RATES)
        for seed in seeds
    ]
    schedules = yield [
        _with_noise(
            "schedules",
            shape,
            0.08,
            seed,
            options,
            epochs=1 if fast else 10,
            batch=8,
            learner="experiments.training.squared_error.SquaredError",
            shape=shape,
            hidden=[],
        )
        for shape in (("cosine",) if fast else SHAPES)
        for seed in seeds
    ]
    warm = yield [
        _with_noise(
            "warm-up",
            arm,
            0.1,
            seed,
            options,
            epochs=1 if fast else 10,
            warmup=steps,
            hidden=[64] * 6,
            initialization=0.3,
        )
        for arm, steps in (list(WARMUPS.items())[1:] if fast else WARMUPS.items())
        for seed in seeds
    ]
    parts = figures.Parts(sharpness, quadratic, edge, sweep, schedules, warm)
    return Findings(
        verdicts=_verdicts(parts, options),
        tables=_tables(parts),
        figures=figures.figures(parts),
        agreement=second_order([*quadratic, *edge, *sweep, *schedules, *warm]),
        explanation=EXPLANATION,
    )


def _verdicts(parts: figures.Parts, options: Options) -> list[Verdict]:
    return [
        _bound(parts.quadratic, options),
        _edge(parts.edge, options),
        _largest(parts.rates, options),
        _decays(parts.schedules, options),
        _warm(parts.warmup, options),
    ]


def _bound(results: Sequence[Result], options: Options) -> Verdict:
    ratios = {
        arm: [
            r.curves["train/loss"][1:] / r.curves["train/loss"][:-1] for r in by_arm(results, arm)
        ]
        for arm in figures.QUADRATIC
    }
    below, above = ratios.values()
    rises = max(float(np.max(ratio)) for ratio in below)
    factors = [float(ratio[-1]) for ratio in above]
    return judge(
        BOUND,
        rises <= 1 and all(abs(factor / 1.05**2 - 1) <= 0.01 for factor in factors),
        f"below, the loss is multiplied by at most {rises:.4f} in a step; above, at the end by "
        f"{np.mean(factors):.4f}, in theory 1.1025",
        options,
        short=True,
    )


def hovering(result: Result) -> float:
    """The mean sharpness over the last third of a training, in units of 2/rate."""
    values = result.curves["sharpness/value"]
    return float(np.mean(values[-(len(values) // 3) :])) * result.trial.labels["rate"] / 2


def rising(result: Result) -> float:
    """The share of the steps of the second half that raise the loss."""
    losses = result.curves["train/loss"]
    return float(np.mean(np.diff(losses[len(losses) // 2 :]) > 0))


def falling(result: Result) -> float:
    """The loss of the last step over that at half of the training."""
    losses = result.curves["train/loss"]
    return float(losses[-1] / losses[len(losses) // 2])


def _edge(results: Sequence[Result], options: Options) -> Verdict:
    at_edge = [r for r in results if r.trial.labels["rate"] >= 0.5]
    held = [0.95 <= hovering(r) <= 1.15 and rising(r) >= 0.05 and falling(r) < 0.9 for r in at_edge]
    found = []
    for arm, rate in EDGES.items():
        if rate >= 0.5 and (own := by_arm(results, arm)):
            mean = np.mean([hovering(r) for r in own]) * 2 / rate
            found.append(f"{mean:.2f} against {2 / rate:.2f}")
    shares = [rising(r) for r in at_edge]
    return judge(
        EDGE,
        all(held),
        f"sharpness against 2/rate: {', '.join(found)}; {min(shares):.0%} to {max(shares):.0%} of "
        "the steps raise the loss",
        options,
    )


def _largest(results: Sequence[Result], options: Options) -> Verdict:
    pairs = []
    for seed in dict.fromkeys(r.trial.labels["seed"] for r in results):
        losses = {
            r.trial.labels["rate"]: late_loss(r) for r in results if r.trial.labels["seed"] == seed
        }
        trains = [rate for rate, loss in losses.items() if loss < CHANCE / 2]
        pairs.append((min(losses, key=losses.__getitem__), max(trains, default=np.nan)))
    return judge(
        LARGEST,
        all(best >= largest / 2 for best, largest in pairs),
        "best and largest rate, by seed: " + ", ".join(f"{b:g} and {a:g}" for b, a in pairs),
        options,
    )


def _decays(results: Sequence[Result], options: Options) -> Verdict:
    ends = {
        shape: float(np.mean([late_loss(r) for r in by_arm(results, shape)]))
        for shape in SHAPES
        if by_arm(results, shape)
    }
    return judge(
        DECAYS,
        all(ends[shape] < ends.get("constant", np.inf) for shape in ends if shape != "constant"),
        "training loss at the end: " + ", ".join(f"{s} {loss:.4f}" for s, loss in ends.items()),
        options,
    )


def _warm(results: Sequence[Result], options: Options) -> Verdict:
    without, with_ = (
        [late_loss(r) for r in by_arm(results, arm)] for arm in ("no warm-up", "warm-up")
    )
    starts = [float(r.curves["sharpness/value"][0]) for r in results]
    rate = results[0].trial.labels["rate"]
    return judge(
        WARM,
        not any(loss < CHANCE / 2 for loss in without)
        and all(loss <= 0.5 for loss in with_)
        and min(starts) > 2 / rate,
        f"training loss at the end: without {_loss(without)}, with {_loss(with_)}; sharpness at "
        f"the start at least {min(starts):.0f}, 2/rate {2 / rate:.0f}",
        options,
    )


def _loss(losses: Sequence[float]) -> str:
    if not losses:
        return "not run"
    diverged = sum(not np.isfinite(loss) for loss in losses)
    return f"{diverged} of {len(losses)} diverged" if diverged else plus_minus(losses, ".3f")


def _tables(parts: figures.Parts) -> list[Table]:
    return [_rates(parts.rates), _edges(parts.edge), _others(parts)]


def _rates(results: Sequence[Result]) -> Table:
    rows = []
    for arm in dict.fromkeys(r.trial.labels["arm"] for r in results):
        own = by_arm(results, arm)
        accuracies = [r.metrics["test/accuracy"] for r in own]
        rows.append(
            (
                f"{own[0].trial.labels['rate']:g}",
                _loss([late_loss(r) for r in own]),
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


def _edges(results: Sequence[Result]) -> Table:
    rows = [
        (
            f"{rate:g}",
            f"{2 / rate:.2f}",
            plus_minus([hovering(r) * 2 / rate for r in by_arm(results, arm)], ".2f"),
            f"{np.mean([rising(r) for r in by_arm(results, arm)]):.0%}",
            plus_minus([float(r.curves["train/loss"][-1]) for r in by_arm(results, arm)], ".3f"),
        )
        for arm, rate in EDGES.items()
        if by_arm(results, arm)
    ]
    return Table(
        "Gradient descent without noise",
        ("rate", "2/rate", "sharpness", "steps that raise the loss", "loss at the end"),
        rows,
        note="Sharpness: mean over the last third of the training. Steps: of its second half.",
    )


def _others(parts: figures.Parts) -> Table:
    rows = [
        (part, arm, f"{own[0].trial.labels['rate']:g}", _loss([late_loss(r) for r in own]))
        for part, results in (("schedule", parts.schedules), ("warm-up", parts.warmup))
        for arm in dict.fromkeys(r.trial.labels["arm"] for r in results)
        for own in [by_arm(results, arm)]
    ]
    return Table(
        "Schedules and warm-up",
        ("experiment", "arm", "highest rate", "training loss"),
        rows,
        note="Training loss: mean of the last tenth.",
    )


STUDY = Study(
    name="learning_rate",
    question=(__doc__ or "").partition("\n")[0],
    predictions=(BOUND, EDGE, LARGEST, DECAYS, WARM),
    scientific={
        "rate": "on either side of 2/sharpness; "
        + ", ".join(f"{rate:g}" for rate in EDGES.values())
        + " without noise; "
        + ", ".join(f"{rate:g}" for rate in RATES)
        + " with it",
        "schedule": ", ".join(SHAPES),
        "warm-up": "none, and 95 of 190 steps",
    },
    nuisance={},
    fixed={
        "data": "scikit-learn's digits: 300 in one batch (quadratic; edge: without their mean), "
        "else 1200 in batches of 64 (schedules: 8)",
        "networks": "linear (quadratic, schedules); 64-64x2-10 with tanh (edge); 64-64-10 with "
        "ReLU (rates); 64-64x6-10 with ReLU from normal weights of deviation 0.3 (warm-up)",
        "loss": "half the squared distance from the class's unit vector (quadratic, edge, "
        "schedules); cross-entropy",
        "optimizer": "plain SGD",
        "length": "150 steps (quadratic), 700 (edge), 10 epochs (others)",
        "precision": "float64",
    },
    metric="sharpness, the largest eigenvalue of the Hessian of the training loss; training loss",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=figures.COLOURS,
)
