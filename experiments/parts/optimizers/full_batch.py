"""L-BFGS against gradient descent, both on the whole training part at once.

L-BFGS guesses the curvature from the last gradients (Nocedal & Wright 2006, Numerical Optimization,
algorithm 7.5) and searches along its step for a point that is good enough (strong Wolfe, algorithm
3.5). Its gradients are by hand; the rule itself is torch's. It may compute several gradients for a
step, so gradients are what is counted.
"""

from collections.abc import Generator, Sequence

import numpy as np

from experiments import configs
from experiments.figures import optimizers as figures
from experiments.measures import by_arm
from experiments.parts.optimizers import Part
from experiments.statistics import over, plus_minus
from experiments.study import Backprop, Options, Prediction, Table, judge
from experiments.trial import Result, Trial
from experiments.tuning import SEED, best_rates, tune

LBFGS, DESCENT = "L-BFGS", "SGD"
BUDGET = 45
"""Gradients of the whole training part after which the losses are compared."""

PREDICTION = Prediction(
    claim="On the whole training part at once L-BFGS gets further with as many gradients than "
    "gradient descent.",
    source="Nocedal & Wright 2006, section 7.2; Le et al. 2011 (ICML), section 4",
    refuted_if=f"after {BUDGET} gradients its training loss is above 0.5 of gradient descent's, at "
    "the rate that suits that best, under any seed",
)
SHORT_LIVED = (
    "L-BFGS is compared for seven steps only. It divides by differences of successive gradients, "
    "in which the leading digits cancel, and so amplifies rounding: its trainings by hand and by "
    "autograd start equal to the last digits and part beyond the ninth after some ten steps, while "
    "at the same weights their gradients still agree to the last digits."
)
RATES = {DESCENT: (0.1, 0.3, 1.0, 3.0)}


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on the whole training part."""
    searched = configs.item(
        "torch.optim.LBFGS", lr=rate, max_iter=5, history_size=10, line_search_fn="strong_wolfe"
    )
    plain = configs.optimizer("SGD", backprop, lr=rate)
    steps = (7 if name == LBFGS else BUDGET) // (5 if options.fast else 1)
    config = configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[64]),
        optimizer=searched if name == LBFGS else plain,
        data=configs.item(
            "experiments.training.full_batch.FullBatch", samples=1200, steps_per_epoch=steps
        ),
        backprop=backprop,
        seed=seed,
        epochs=1,
        evaluate_every=5,
        accelerator=options.accelerator,
        callbacks=[configs.item("experiments.training.evaluations.Evaluations")],
    )
    labels = {"phase": phase, "arm": name, "rate": rate, "seed": seed}
    return Trial(f"{phase}-full-batch-{name}-lr{rate:g}-seed{seed}-{backprop}", labels, config)


def plan(options: Options) -> Generator[list[Trial], list[Result], Part]:
    """Tune gradient descent, and compare; L-BFGS needs no rate but 1."""
    best = {**best_rates((yield from tune(trial, RATES, options, widen=1))), LBFGS: 1.0}
    final: list[Result] = yield [
        trial(name, rate, seed, options.backprop, options, "full batch")
        for name, rate in best.items()
        for seed in options.range(3)
    ]
    losses = {name: [loss_after(BUDGET, r) for r in by_arm(final, name)] for name in best}
    held = all(a <= 0.5 * b for a, b in zip(losses[LBFGS], losses[DESCENT], strict=True))
    measured = f"training loss after {BUDGET} gradients: " + ", ".join(
        f"{'gradient descent' if name == DESCENT else name} {np.mean(found):.2g}"
        for name, found in losses.items()
    )
    return Part(
        judge(PREDICTION, held, measured, options),
        _table(final, best, losses),
        figures.full_batch(final),
    )


def loss_after(gradients: int, result: Result) -> float:
    """The training loss at the last step that at most so many gradients were computed for."""
    spent = np.flatnonzero(result.curves["evaluations"] <= gradients)
    return float(result.curves["train/loss"][spent[-1]])


def _table(
    final: Sequence[Result], best: dict[str, float], losses: dict[str, list[float]]
) -> Table:
    rows = [
        (
            "gradient descent" if name == DESCENT else name,
            f"{rate:g}",
            plus_minus(losses[name], ".4f"),
            plus_minus([r.metrics["test/accuracy"] for r in by_arm(final, name)], ".1f", 100)
            + " %",
        )
        for name, rate in best.items()
    ]
    return Table(
        "The whole training part in every step",
        ("optimizer", "lr", f"training loss, {BUDGET} gradients", "test accuracy"),
        rows,
        note=f"{over(len(final) // len(best))} Gradient descent's rate is tuned on seed {SEED}; "
        "L-BFGS tries 1 first and shortens its step where that is too long.",
    )
