"""How large may a learning rate be, and should it stay the same?

Five experiments on digits. A quadratic, where theory is exact. A small network without noise, whose
curvature adapts to the rate. The same question for an ordinary training, from a rate that is far
too low to one that diverges; schedules that lower the rate; and one that begins low. The thresholds
were set by runs on seeds 101 and 102.
"""

from collections.abc import Sequence

from experiments.figures import learning_rate as figures
from experiments.measures import by_arm, late_loss, second_order
from experiments.parts.learning_rate import edge, loss_text, quadratic, schedules, sweep, warmup
from experiments.study import Findings, Options, Plan, Study, Table
from experiments.trial import Result

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


def plan(options: Options) -> Plan:
    """Measure the quadratic's sharpness first, because its rates are chosen by it."""
    (measured,) = yield quadratic.measuring(options)
    exact = yield quadratic.trials(measured, options)
    at_edge = yield edge.trials(options)
    swept = yield sweep.trials(options)
    lowered = yield schedules.trials(options)
    warmed = yield warmup.trials(options)
    return Findings(
        verdicts=[
            quadratic.verdict(exact, options),
            edge.verdict(at_edge, options),
            sweep.verdict(swept, options),
            schedules.verdict(lowered, options),
            warmup.verdict(warmed, options),
        ],
        tables=[sweep.table(swept), edge.table(at_edge), _schedules(lowered, warmed)],
        figures=figures.figures(figures.Parts(exact, at_edge, swept, lowered, warmed)),
        agreement=second_order([*exact, *at_edge, *swept, *lowered, *warmed]),
        explanation=EXPLANATION,
    )


def _schedules(lowered: Sequence[Result], warmed: Sequence[Result]) -> Table:
    rows = [
        (part, arm, f"{own[0].trial.labels['rate']:g}", loss_text([late_loss(r) for r in own]))
        for part, results in (("schedule", lowered), ("warm-up", warmed))
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
    predictions=tuple(part.PREDICTION for part in (quadratic, edge, sweep, schedules, warmup)),
    scientific={
        "rate": "on either side of 2/sharpness; "
        + ", ".join(f"{rate:g}" for rate in edge.RATES.values())
        + " without noise; "
        + ", ".join(f"{rate:g}" for rate in sweep.RATES)
        + " with it",
        "schedule": ", ".join(schedules.SHAPES),
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
