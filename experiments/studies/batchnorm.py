"""Why does BatchNorm train faster: does it keep what a unit receives from drifting?

Ioffe & Szegedy's three layers of a hundred sigmoids, on digits: without normalization, with
BatchNorm, with LayerNorm, each at the learning rate that suits it best; then all three at a rate
that is far too high; and BatchNorm once more with random shifts after it, which bring the drift
back. The thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import configs
from experiments.figures import batchnorm as figures
from experiments.measures import by_arm, late_loss, steps_to
from experiments.parts.batchnorm import (
    COLOURS,
    EVERY,
    HIGH,
    RATES,
    SHIFT,
    SHIFTED,
    TRAINED,
    compared,
    mean_steps,
    rates,
    typical,
)
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
from experiments.trial import Result, Trial
from experiments.tuning import BY, at_an_end, best_rates, tune

NORMALIZATION = {"none": None, "BatchNorm": "BatchNorm1d", "LayerNorm": "LayerNorm"}
SHORT_RATES = dict.fromkeys(RATES, (1,))

FASTER = Prediction(
    claim="With BatchNorm the network trains many times faster.",
    source="Ioffe & Szegedy 2015, section 4.1 and Figure 1a (arXiv:1502.03167)",
    refuted_if="under any seed it takes more than a fifth of the plain network's steps to 90 % "
    "validation accuracy",
)
STEADY = Prediction(
    claim="What a sigmoid of the last hidden layer receives drifts less with BatchNorm.",
    source="Ioffe & Szegedy 2015, Figure 1b and c",
    refuted_if="under any seed the median of a typical unit's input travels as far as in the plain "
    "network, or farther",
)
HIGHER = Prediction(
    claim=f"BatchNorm stands a learning rate of {HIGH}, at which the others do not train.",
    source="Ioffe & Szegedy 2015, sections 3.3 and 4.2.1 (30 times the rate, ImageNet)",
    refuted_if=f"at rate {HIGH} the training loss over the last tenth is above {TRAINED} with "
    "BatchNorm, or below 2.0 without, or below 2.0 with LayerNorm, under any seed",
)
ANYWAY = Prediction(
    claim="The steadiness is not the reason: with random shifts after BatchNorm its units' inputs "
    "move more than plain ones, and it still trains many times faster.",
    source="Santurkar et al. 2018, section 2.1 and Figure 2 (arXiv:1805.11604)",
    refuted_if="under any seed the median of a typical unit's input moves less than three times as "
    f"far in {EVERY} steps as in the plain network, or it takes more than a fifth of the plain "
    "network's steps to 90 %",
)
LAYER = Prediction(
    claim="LayerNorm, which looks at one sample and all units, trains faster than none, too.",
    source="Ba, Kiros & Hinton 2016 (arXiv:1607.06450), abstract",
    refuted_if="under any seed it takes more than half of the plain network's steps to 90 %",
)
PREDICTIONS = (FASTER, STEADY, HIGHER, ANYWAY, LAYER)
SHORT = (STEADY,)
"""Those that the short form decides too."""


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training."""
    arguments = {
        "hidden": [100] * 3,
        "activation": "Sigmoid",
        "normalization": NORMALIZATION.get(arm, "BatchNorm1d"),
        "initialization": "xavier",
    }
    networks, final = "lightning_modules.networks", phase == "final"
    network = (
        configs.item(f"{networks}.ShiftingMLP", shift=SHIFT, scale=1.25, **arguments)
        if arm == SHIFTED
        else configs.item(f"{networks}.MLP", **arguments)
    )
    config = configs.fit(
        network=network,
        optimizer=configs.optimizer("SGD", backprop, lr=rate),
        data=configs.item("lightning_modules.data.Digits", batch_size=60, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=5 if options.fast else 50,
        evaluate_every=20,
        accelerator=options.accelerator,
        histograms_every=100 if final else 0,
        callbacks=[
            configs.item(
                "experiments.training.quantiles.Quantiles", layer="activation3", every_n_steps=EVERY
            )
        ],
    )
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    short = arm.replace(", ", "-")
    name = f"{phase}-{short}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(name, labels, config, f"{short}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Tune each arm's rate; compare at these rates; then at the high one, in the full form."""
    seeds = options.range(3)
    tuning = yield from tune(trial, SHORT_RATES if options.fast else RATES, options)
    best = best_rates(tuning)
    best[SHIFTED] = best["BatchNorm"]
    final: list[Result] = yield [
        trial(arm, best[arm], seed, options.backprop, options, "final")
        for arm in COLOURS
        for seed in seeds
    ]
    # Not in step with autograd: where a training goes wild it amplifies rounding, and two right
    # ones part.
    high: list[Result] = yield [
        trial(arm, HIGH, seed, options.tuning, options, "high")
        for arm in ([] if options.fast else RATES)
        for seed in seeds
    ]
    return Findings(
        verdicts=_verdicts(final, high, options),
        tables=[compared(final, best), *([rates(tuning, high)] if high else [])],
        figures=figures.all_of(final, tuning, COLOURS, every=EVERY, trained=TRAINED),
        warnings=at_an_end(tuning, options),
        explanation=EXPLANATION,
    )


def _verdicts(final: Sequence[Result], high: Sequence[Result], options: Options) -> list[Verdict]:
    steps = {arm: np.array([steps_to(0.9, r) for r in by_arm(final, arm)]) for arm in COLOURS}
    travel, jump = (
        {arm: typical(quantity, by_arm(final, arm)) for arm in COLOURS}
        for quantity in ("travel", "jump")
    )
    ends = {arm: [late_loss(r) for r in by_arm(high, arm)] for arm in RATES}
    plain, longest = steps["none"], len(final[0].curves["train/loss"])

    def within(arm: str, share: float) -> bool:
        # A plain network that does not get there takes longer than the training, at least.
        return bool(np.all(steps[arm] <= share * np.minimum(plain, longest)))

    def taken(*arms: str) -> str:
        said = (f"{arm} {mean_steps(steps[arm], longest)}" for arm in arms)
        return "steps to 90 %: " + ", ".join(said)

    def moved(distances: Mapping[str, np.ndarray], *arms: str) -> str:
        return ", ".join(f"{arm} {np.mean(distances[arm]):.2g}" for arm in arms)

    holds = (
        within("BatchNorm", 0.2),
        bool(np.all(travel["BatchNorm"] < travel["none"])),
        bool(high)
        and max(ends["BatchNorm"]) <= TRAINED
        and not any(loss < 2.0 for arm in ("none", "LayerNorm") for loss in ends[arm]),
        bool(np.all(jump[SHIFTED] >= 3 * jump["none"])) and within(SHIFTED, 0.2),
        within("LayerNorm", 0.5),
    )
    measured = (
        taken("none", "BatchNorm"),
        "travelled: " + moved(travel, "none", "BatchNorm"),
        "training loss at the end: "
        + ", ".join(f"{arm} {np.mean(found):.2g}" for arm, found in ends.items())
        if high
        else "not run in the short form",
        f"moved in {EVERY} steps: {moved(jump, 'none', SHIFTED)}; {taken('none', SHIFTED)}",
        taken("none", "LayerNorm"),
    )
    return judge_all(PREDICTIONS, holds, measured, options, short=SHORT)


EXPLANATION = (
    "Without normalization the three sigmoids first have to find their working point: each layer's "
    "outputs hardly differ from sample to sample, so that the gradient that comes through all "
    "three is small, and for hundreds of steps the loss stays at chance. BatchNorm puts every unit "
    "where the slope of its sigmoid is largest, from the first step on.",
    "A weight matrix before BatchNorm can be scaled without any effect on the output, and its "
    "gradient shrinks as the matrix grows. A step that is too long makes the weights large, and "
    "thereby the following steps short: that is why it survives rates at which the plain network "
    "saturates for good.",
    "The authors explained the speed by the steadier distributions. The shifted network tests "
    "that: what its units receive jumps at every step, and it is fast nevertheless. Santurkar et "
    "al. conclude that what helps is a smoother loss, whose gradient can be trusted over longer "
    "steps. How far is measured here as in the figures, in units of the sigmoid's input. Against "
    "the spread of what one unit receives from different samples, which is next to nothing in the "
    "plain network at first, the plain network's movements would be the larger ones.",
)

STUDY = Study(
    name="batchnorm",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"normalization": ", ".join(COLOURS), "learning rate": f"the best one, and {HIGH}"},
    nuisance={
        "learning rate": f"tuned for each normalization on a grid from 0.1 or 0.3 to 10 or 100 {BY}"
    },
    fixed={
        "data": configs.DIGITS,
        "network": "64-100x3-10 with sigmoids, Xavier's weights",
        "optimizer": "SGD",
        "batch": "60",
        "length": "50 epochs, 1000 steps",
        "precision": "float64",
    },
    metric="steps to 90 % validation accuracy; how far the median of a unit's input moves; "
    "training loss over the last tenth",
    seeds="0, 1, 2 (weights, order of the batches, shifts)",
    plan=plan,
    arms=COLOURS,
)
