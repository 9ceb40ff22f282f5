"""Does the scale of the first weights decide whether a deep network learns?

Two networks on digits. The first, five wide tanh layers, is looked at before its first step, as in
Glorot & Bengio's Figure 7. The second, thirty ReLU layers, is trained from each initialization at
the learning rate that suits it best. The thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Sequence

import numpy as np

from experiments import configs
from experiments.figures import arms, style
from experiments.measures import by_arm, kept, late_loss, layers
from experiments.statistics import over, plus_minus
from experiments.study import (
    Backprop,
    Figure,
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
from experiments.tuning import BY, best_rates, tune

RATES = (0.001, 0.003, 0.01)
CHANCE = float(np.log(10))
"""The loss of a classifier that knows nothing: ten equal probabilities."""

RULES: dict[str, str | float] = {
    "zeros": "zeros",
    "small": 0.01,
    "Xavier": "xavier",
    "Kaiming": "kaiming",
    "large": 0.3,
}
COLOURS = {
    "standard": style.GREY,
    "zeros": style.PINK,
    "small": style.SKY,
    "Xavier": style.BLUE,
    "Kaiming": style.GREEN,
    "large": style.RED,
}

KEPT = Prediction(
    claim="The usual uniform weights shrink the gradient on its way back through tanh layers; "
    "Xavier's keep it.",
    source="Glorot & Bengio 2010, section 4.2 and Figure 7",
    refuted_if="before the first step the standard deviation of dL/dy at layer 1 is above 0.3 of "
    "that at layer 5 from standard weights, or below 0.6 of it from Xavier's, under any seed",
)
TRAINS = Prediction(
    claim="Thirty ReLU layers stall from Xavier's weights and train from Kaiming's, which count "
    "that ReLU halves the variance.",
    source="He et al. 2015, section 2.2 and Figure 3 (arXiv:1502.01852)",
    refuted_if="the training loss over the last tenth of the training falls below 2.1 from "
    "Xavier's weights, or stays above 1.0 from Kaiming's, under any seed",
)
NEVER = Prediction(
    claim="Weights that all start at zero never learn: no gradient reaches a hidden layer.",
    source="Goodfellow et al. 2016, Deep Learning, section 8.4",
    refuted_if="the training loss over the last tenth of the training falls below 2.29 "
    "(chance is 2.303) under any seed",
)

PREDICTIONS = (KEPT, TRAINS, NEVER)
SHORT = (KEPT, NEVER)
"""Those that the short form decides too."""


def before(rule: str, seed: int, options: Options) -> Trial:
    """One step of the tanh network, whose first gradients are looked at."""
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP",
            hidden=[100 if options.fast else 500] * 5,
            activation="Tanh",
            initialization=rule,
        ),
        optimizer=configs.optimizer("SGD", options.backprop, lr=0.001),
        data=configs.item("lightning_modules.data.Digits", batch_size=256, seed=seed),
        backprop=options.backprop,
        seed=seed,
        epochs=1,
        evaluate_every=1,
        accelerator=options.accelerator,
        trainer={"max_steps": 1},
        callbacks=[configs.item("experiments.training.by_layer.ByLayer", layers=["Tanh"])],
    )
    arm = {"standard": "standard", "xavier": "Xavier"}[rule]
    labels = {"phase": "before", "arm": arm, "seed": seed}
    return Trial(f"before-{arm}-seed{seed}-{options.backprop}", labels, config)


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of the deep ReLU network."""
    final = phase == "final"
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP",
            hidden=[64] * (8 if options.fast else 30),
            initialization=RULES[arm],
        ),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.9),
        data=configs.item("lightning_modules.data.Digits", batch_size=64, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=1 if options.fast else 30,
        evaluate_every=19,
        accelerator=options.accelerator,
        histograms_every=100 if final else 0,
        callbacks=[
            configs.item("experiments.training.by_layer.ByLayer", layers=["ReLU"], every_n_steps=50)
        ]
        if final
        else [],
    )
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    name = f"{phase}-{arm}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(name, labels, config, f"{arm}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Look at the first gradients; tune the deep network's rate for each start; then compare."""
    first: list[Result] = yield [
        before(rule, seed, options) for rule in ("standard", "xavier") for seed in options.range(3)
    ]
    best = best_rates((yield from tune(trial, dict.fromkeys(RULES, RATES), options)))
    final: list[Result] = yield [
        trial(arm, best[arm], seed, options.backprop, options, "final")
        for arm in RULES
        for seed in options.range(3)
    ]
    return Findings(
        verdicts=_verdicts(first, final, options),
        tables=[_trained(final, best), _first(first)],
        figures=_figures(first, final),
    )


def _verdicts(first: Sequence[Result], final: Sequence[Result], options: Options) -> list[Verdict]:
    ratios = {arm: [kept(r) for r in by_arm(first, arm)] for arm in ("standard", "Xavier")}
    ends = {arm: [late_loss(r) for r in by_arm(final, arm)] for arm in RULES}
    holds = (
        max(ratios["standard"]) <= 0.3 and min(ratios["Xavier"]) >= 0.6,
        min(ends["Xavier"]) >= 2.1 and max(ends["Kaiming"]) <= 1.0,
        min(ends["zeros"]) >= 2.29,
    )
    measured = (
        "gradient at layer 1 over layer 5: "
        + ", ".join(f"{arm} {np.mean(found):.2f}" for arm, found in ratios.items()),
        "training loss at the end: "
        + ", ".join(f"{arm} {np.mean(ends[arm]):.2f}" for arm in ("Xavier", "Kaiming")),
        f"training loss at the end: zeros {np.mean(ends['zeros']):.3f}",
    )
    return judge_all(PREDICTIONS, holds, measured, options, short=SHORT)


def _trained(final: Sequence[Result], best: dict[str, float]) -> Table:
    rows = []
    for arm, rule in RULES.items():
        own = by_arm(final, arm)
        signal = [float(s[-1] / s[0]) for s in (layers(r, "output") for r in own) if s[0]]
        rows.append(
            (
                arm if isinstance(rule, str) else f"{arm} (std {rule:g})",
                f"{best[arm]:g}",
                f"{np.mean(signal):.1e}" if signal else "no signal",
                _loss([late_loss(r) for r in own]),
                plus_minus([r.metrics["test/accuracy"] for r in own], ".1f", scale=100) + " %",
            )
        )
    return Table(
        "Thirty ReLU layers from five starts, each at its own learning rate",
        ("start", "tuned lr", "signal left", "training loss", "test accuracy"),
        rows,
        note=f"{over(len(final) // len(RULES))} Signal left: standard "
        "deviation of the last hidden layer's outputs over the first's, before the first step. "
        f"Training loss: mean of the last tenth; chance is {CHANCE:.2f}.",
    )


def _loss(losses: Sequence[float]) -> str:
    return plus_minus(losses, ".2f") if np.isfinite(losses).all() else "diverged"


def _first(first: Sequence[Result]) -> Table:
    rows = [
        (
            arm,
            plus_minus([kept(r) for r in by_arm(first, arm)], ".3f"),
            plus_minus([float(layers(r, "output")[-1]) for r in by_arm(first, arm)], ".3f"),
        )
        for arm in ("standard", "Xavier")
    ]
    return Table(
        "Five tanh layers before the first step",
        ("start", "gradient, layer 1 over 5", "output of layer 5"),
        rows,
        note="Standard deviations over a batch of 256 and the units.",
    )


def _figures(first: Sequence[Result], final: Sequence[Result]) -> list[Figure]:
    return [
        Figure(
            "backward",
            "The gradient on its way back",
            "Standard deviation of dL/dy at each of five tanh layers, before the first step. Read "
            "it from right to left, as the gradient travels: from standard weights it shrinks at "
            "every layer, from Xavier's it stays.",
            lambda: arms.curves(
                first,
                COLOURS,
                arms.by_layer("gradient"),
                xlabel="layer",
                ylabel="gradient, standard deviation",
                yscale="log",
            ),
        ),
        Figure(
            "forward",
            "The signal on its way up",
            "Standard deviation of the outputs of the thirty ReLU layers, before the first step, "
            "on a log axis. Kaiming's weights keep it; from Xavier's each layer loses half of the "
            "variance, so that the last has nothing left to say. Zeros say nothing at all.",
            lambda: arms.curves(
                final,
                COLOURS,
                arms.by_layer("output"),
                xlabel="layer",
                ylabel="output, standard deviation",
                yscale="log",
            ),
        ),
        Figure(
            "deep",
            "The gradient of the deep network",
            "Standard deviation of dL/dy at each of the thirty ReLU layers, before the first step.",
            lambda: arms.curves(
                final,
                COLOURS,
                arms.by_layer("gradient"),
                xlabel="layer",
                ylabel="gradient, standard deviation",
                yscale="log",
            ),
        ),
        Figure(
            "loss",
            "Training",
            "Training loss of the deep network, averaged over an epoch (19 steps); line: mean over "
            "the seeds, band: lowest to highest. At 2.303 a network knows nothing; there the lines "
            "of zeros, small and Xavier lie on one another. Large is left out: it diverges.",
            lambda: arms.curves(
                [r for r in final if r.trial.labels["arm"] != "large"],
                COLOURS,
                arms.by_step("train/loss", 19),
                xlabel="training step",
                ylabel="training loss (nats)",
            ),
        ),
    ]


STUDY = Study(
    name="initialization",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"initialization": "standard and Xavier (tanh); " + ", ".join(RULES) + " (ReLU)"},
    nuisance={"learning rate": f"tuned for each start on {RATES} {BY}"},
    fixed={
        "data": configs.DIGITS,
        "networks": "64-500x5-10 with tanh; 64-64x30-10 with ReLU",
        "optimizer": "SGD, momentum 0.9",
        "batch": "256 for the first gradients, 64 for the trainings",
        "length": "30 epochs, 570 steps",
        "precision": "float64",
    },
    metric="standard deviation of dL/dy by layer; training loss over the last tenth",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
)
