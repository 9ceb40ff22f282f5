"""What keeps a large network from learning its few examples by heart, mistakes and all?

A wide network is trained on 200 digits, 40 of which have a wrong label: with nothing against it,
with dropout, with weight decay, and stopped early. Seen are the rightly labelled images that it
trains on, unseen those of the test part. The thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Sequence

import numpy as np

from experiments import configs
from experiments.figures import regularization as figures
from experiments.measures import by_arm
from experiments.parts.regularization import (
    ARMS,
    COLOURS,
    DECAY,
    DROPOUT,
    NOTHING,
    STOPPING,
    Arm,
    at_the_end,
    compared,
    gap,
    kept,
    tuned,
    validated,
)
from experiments.statistics import interval, plus_minus
from experiments.study import (
    Backprop,
    Findings,
    Options,
    Plan,
    Prediction,
    Study,
    Verdict,
    judge_all,
)
from experiments.trial import Array, Result, Trial
from experiments.tuning import SEED

EVERY = 10
"""Training steps from one evaluation to the next."""
PATIENCE = 10
"""Evaluations without a lower validation loss after which a training is stopped early."""

MEMORISES = Prediction(
    claim="With more weights than examples a network learns its examples by heart, the wrong ones "
    "too, and after a while does worse on others the longer it trains.",
    source="Zhang et al. 2017, section 2 (arXiv:1611.03530); Prechelt 1998, section 1",
    refuted_if="with nothing against it less than 95 % of the wrong labels are reproduced at the "
    "end, or the test loss there is below 1.5 of its lowest, under any seed",
)
DROPS = Prediction(
    claim="Dropout narrows the gap between what was seen and what was not, and lowers the loss on "
    "the unseen.",
    source="Srivastava et al. 2014, sections 1 and 6 (JMLR 15)",
    refuted_if="with dropout the test loss or the gap is above 0.75 of what it is without, under "
    "any seed",
)
DECAYS = Prediction(
    claim="Weight decay does so too: it keeps the weights short, so that they cannot bend to noise "
    "in the targets.",
    source="Krogh & Hertz 1992 (NIPS 4)",
    refuted_if="with weight decay the test loss or the gap is above 0.75 of what it is without, or "
    "the weights are not shorter, under any seed",
)
STOPS = Prediction(
    claim="Stopping where the validation loss is lowest does so at a fraction of the cost.",
    source="Prechelt 1998, Early stopping - but when?; Goodfellow et al. 2016, section 7.8",
    refuted_if="at that step the test loss or the gap is above 0.75 of what it is at the end of "
    "the full training, or more than half of its steps were needed, under any seed",
)
BEATS = Prediction(
    claim="Dropout does better than weight decay.",
    source="Srivastava et al. 2014, section 6.5 and Table 9",
    refuted_if="the 95 % interval of the test loss with weight decay less that with dropout, over "
    "the seeds, reaches below 0",
)

PREDICTIONS = (MEMORISES, DROPS, DECAYS, STOPS, BEATS)
SHORT = (MEMORISES, DROPS, STOPS)
"""Those that the short form decides too."""


def trial(
    arm: Arm, strength: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of the wide network with one thing done against overfitting."""
    final = phase == "final"
    watchers = []
    if final:
        watchers.append(configs.item("experiments.training.generalization.Generalization"))
    if arm is STOPPING:
        watchers.append(
            configs.item(
                "pytorch_lightning.callbacks.EarlyStopping", monitor="val/loss", patience=PATIENCE
            )
        )
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP",
            hidden=[128 if options.fast else 256] * 2,
            dropout=strength if arm is DROPOUT else 0.0,
        ),
        optimizer=configs.optimizer(
            "SGD",
            backprop,
            lr=0.1 if options.fast else 0.03,
            momentum=0.9,
            weight_decay=strength if arm is DECAY else 0.0,
        ),
        data=configs.item("lightning_modules.data.NoisyDigits", samples=200, wrong=0.2, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=75 if options.fast else 200,
        evaluate_every=EVERY if final else 4 * EVERY,
        accelerator=options.accelerator,
        histograms_every=100 if final else 0,
        callbacks=watchers,
    )
    labels = {"phase": phase, "arm": arm.name, "strength": strength, "seed": seed}
    name = f"{phase}-{arm.name.replace(' ', '-')}-{strength:g}-seed{seed}-{backprop}"
    return Trial(name, labels, config, f"{arm.name}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Choose each strength by the validation loss at the end, then compare."""
    tuning: list[Result] = yield [
        trial(arm, strength, SEED, options.tuning, options, "tuning")
        for arm in (DROPOUT, DECAY)
        for strength in (arm.strengths[:1] if options.fast else arm.strengths)
    ]
    best = {arm.name: arm.strengths[0] for arm in ARMS}
    for result in sorted(tuning, key=validated, reverse=True):  # the lowest comes last
        best[result.trial.labels["arm"]] = result.trial.labels["strength"]
    final: list[Result] = yield [
        trial(arm, best[arm.name], seed, options.backprop, options, "final")
        for arm in ARMS
        for seed in options.range(5)
    ]
    return Findings(
        verdicts=_verdicts(final, options),
        tables=[compared(final, best), tuned(tuning, best)],
        figures=figures.figures(tuning, final, COLOURS, EVERY),
        explanation=(EXPLANATION,),
    )


EXPLANATION = (
    "A right label has much in common with the other images of its class, a wrong one with none. "
    "So what the images share is learned first, in a few steps, and only then, weight by weight, "
    "the exceptions. Each of the three leaves the network its first part and keeps it from the "
    "second: early stopping by time, weight decay by the length that the weights must have for a "
    "sharp exception, dropout by taking away the units that would have agreed on one."
)


def _verdicts(final: Sequence[Result], options: Options) -> list[Verdict]:
    def each(arm: Arm, curve: str) -> Array:
        return np.array([at_the_end(result, curve) for result in by_arm(final, arm.name)])

    def relative(arm: Arm, curve: str) -> Array:
        return each(arm, curve) / each(NOTHING, curve)

    gaps = {a: np.array([gap(result) for result in by_arm(final, a.name)]) for a in ARMS}
    losses = {arm: relative(arm, "unseen/loss") for arm in ARMS}
    narrowed = {arm: gaps[arm] / gaps[NOTHING] for arm in ARMS}
    less = {arm: max(*losses[arm], *narrowed[arm]) <= 0.75 for arm in ARMS}
    said = {
        arm: f"of what it is with nothing: test loss {losses[arm].mean():.2f}, gap "
        f"{narrowed[arm].mean():.2f}"
        for arm in ARMS
    }
    learned, plain = each(NOTHING, "memorised"), by_arm(final, NOTHING.name)
    risen = each(NOTHING, "unseen/loss") / [min(r.curves["unseen/loss"]) for r in plain]
    shorter = relative(DECAY, "length")
    steps = [float(r.curves["val/step"][kept(r)]) for r in by_arm(final, STOPPING.name)]
    full = float(plain[0].curves["val/step"][-1])
    ahead = (each(DECAY, "unseen/loss") - each(DROPOUT, "unseen/loss")).tolist()
    mean, half = interval(ahead)
    holds = (
        min(learned) >= 0.95 and min(risen) >= 1.5,
        less[DROPOUT],
        less[DECAY] and max(shorter) < 1,
        less[STOPPING] and max(steps) <= full / 2,
        mean > (0 if np.isnan(half) else half),
    )
    measured = (
        f"wrong labels reproduced: {learned.mean():.0%}; test loss at the end over its lowest: "
        f"{risen.mean():.1f}",
        said[DROPOUT],
        f"{said[DECAY]}, length of the weights {shorter.mean():.2f}",
        f"{said[STOPPING]}; found at step {np.mean(steps):.0f} of {full:.0f}",
        f"test loss with weight decay less that with dropout: {plus_minus(ahead, '.2f')}",
    )
    return judge_all(PREDICTIONS, holds, measured, options, short=SHORT)


STUDY = Study(
    name="regularization",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"against overfitting": ", ".join(COLOURS)},
    nuisance={
        "strength": f"dropout's probability on {DROPOUT.strengths} and weight decay on "
        f"{DECAY.strengths}, by the validation loss over the last tenth of the training, on seed "
        f"{SEED}; early stopping's is found by the validation part in each training"
    },
    fixed={
        "data": "scikit-learn's digits: 200 to train, a fifth of them with a wrong label, 400 to "
        "validate, 397 to test, both with right labels",
        "network": "64-256-256-10, ReLU: 85,002 weights and biases",
        "optimizer": "SGD, momentum 0.9, learning rate 0.03; decay acts on weights and biases",
        "batch": "50",
        "length": "200 epochs, 800 steps",
        "patience": f"{PATIENCE} evaluations, one every {EVERY} steps; the weights that count are "
        "those of the lowest validation loss",
        "precision": "float64",
    },
    metric="test loss; gap between the test loss and that on the rightly labelled training images",
    seeds="0 to 4 (images, wrong labels, weights, order of the batches, what is dropped)",
    plan=plan,
    arms=COLOURS,
)
