"""Adam and AMSGrad on a convex problem in one number; see experiments/training/reddi.py."""

from collections.abc import Generator

from experiments import configs
from experiments.figures import optimizers as figures
from experiments.measures import by_arm
from experiments.parts.optimizers import Part
from experiments.study import Options, Prediction, Table, judge
from experiments.trial import Array, Result, Trial

LARGE = 3.0
ADAM, AMSGRAD = "Adam", "AMSGrad"

PREDICTION = Prediction(
    claim="On a convex problem Adam can end at the worst point, where AMSGrad ends at the best.",
    source="Reddi, Kale & Kumar 2018, section 3, theorem 1, and algorithm 2 (ICLR)",
    refuted_if="on [-1, 1] with slopes 3, -1, -1, 3 ..., beta1 = 0 and beta2 = 1/10 Adam ends "
    "below +0.9 or AMSGrad above -0.9 (the optimum is -1)",
)


def trial(name: str, options: Options) -> Trial:
    """One game; there is nothing random in it."""
    config = configs.fit(
        learner="experiments.training.reddi.Online",
        network=configs.item("experiments.training.reddi.Point"),
        optimizer=configs.optimizer(
            "Adam",
            options.backprop,
            lr=0.5,
            betas=[0.0, 1 / (1 + LARGE**2)],
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=name == AMSGRAD,
        ),
        data=configs.item(
            "experiments.training.reddi.Costs", large=LARGE, cycles=40 if options.fast else 200
        ),
        backprop=options.backprop,
        seed=0,
        epochs=1,
        evaluate_every=60,
        accelerator=options.accelerator,
    )
    labels = {"phase": "convex problem", "arm": name, "seed": 0}
    return Trial(f"reddi-{name}-{options.backprop}", labels, config)


def plan(options: Options) -> Generator[list[Trial], list[Result], Part]:
    """Let both play."""
    played: list[Result] = yield [trial(name, options) for name in (ADAM, AMSGRAD)]
    ends = {name: end(by_arm(played, name)[0]) for name in (ADAM, AMSGRAD)}
    measured = "x at the end: " + ", ".join(f"{name} {x:+.3f}" for name, x in ends.items())
    table = Table(
        "A convex problem: slopes 3, -1, -1, 3 ... on [-1, 1]",
        ("optimizer", "x at the end", "mean cost of a step"),
        [
            (name, f"{x:+.3f}", f"{by_arm(played, name)[0].curves['train/loss'].mean():+.3f}")
            for name, x in ends.items()
        ],
        note="The best point is -1, at a mean cost of -0.333. beta1 = 0, beta2 = 0.1, rate "
        "0.5 / sqrt(t), no seed: nothing is random.",
    )
    held = ends[ADAM] >= 0.9 and ends[AMSGRAD] <= -0.9
    return Part(
        judge(PREDICTION, held, measured, options, short=True), table, figures.reddi(played, path)
    )


def path(result: Result) -> Array:
    """Return x before each step: what was paid, over the slope."""
    paid = result.curves["train/loss"].copy()
    paid[0::3] /= LARGE
    paid[1::3] *= -1
    paid[2::3] *= -1
    return paid


def end(result: Result) -> float:
    """Return x after the last step."""
    (x,) = result.weights().values()
    return float(x.item())
