"""How many samples should a step look at: one, some, or all?

The same small network on digits with batches of every size, each at the learning rate that suits
it, for the same number of epochs; at the same rate, for the same number of steps; and one batch in
parts. Beside the losses the noise of the gradients is measured, and the sharpness of where they
end. The thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import agreement, configs
from experiments.figures import batch_size as figures
from experiments.measures import by_arm, late_loss, second_order
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
from experiments.trial import Array, Result, Trial
from experiments.tuning import SEED, at_an_end, best_rates, tune

SAMPLES = figures.SAMPLES
RATES: dict[str, Sequence[float]] = {
    "1": (0.01, 0.03, 0.1),
    "8": (0.1, 0.3, 1.0),
    "16": (0.1, 0.3, 1.0),
    "32": (0.3, 1.0, 3.0),
    "64": (0.3, 1.0, 3.0),
    "128": (0.3, 1.0, 3.0),
    "256": (0.3, 1.0, 3.0),
    "512": (0.3, 1.0, 3.0),
    "1200": (0.3, 1.0, 3.0),
}
SHORT = "8"
"""The batch size of the short form."""

EQUAL = ("16", "128", "600")
"""Those that train for equally many steps at the same rate."""

NOISE = (1, 4, 16, 60, 240)

FALLS = Prediction(
    claim="The noise of the gradient falls as 1/batch.",
    source="Bottou et al. 2018, section 3.2 (arXiv:1606.04838); McCandlish et al. 2018, section "
    "2.2 (arXiv:1812.06162)",
    refuted_if="over batches of 1 to 240 the slope of log |g - G|^2 against log B, corrected for "
    "drawing without replacement, is not -1.1 to -0.9, before the first step or at the end, under "
    "any seed",
)
GROWS = Prediction(
    claim="The batch that is worth its while grows while a network trains: the gradient shrinks "
    "faster than its noise.",
    source="McCandlish et al. 2018, sections 2.2 and 4 (arXiv:1812.06162)",
    refuted_if="the noise scale tr(S)/|G|^2 at the end is not above 1.5 times that before the "
    "first step, under any seed",
)
SMALL = Prediction(
    claim="For the same number of epochs the best accuracy comes from batches of 2 to 32.",
    source="Masters & Luschi 2018, section 5 (arXiv:1804.07612)",
    refuted_if="the largest mean test accuracy is that of a batch of 64 or more",
)
SHARP = Prediction(
    claim="Large batches end in sharper minima.",
    source="Keskar et al. 2017, section 2.2 (arXiv:1609.04836)",
    refuted_if="after equally many steps at the same rate, the sharpness with batches of 600 is "
    "not above 1.3 times that with batches of 16, under any seed",
)
SAME = Prediction(
    claim="Gradients accumulated over k micro-batches are those of the large batch, to rounding; "
    "unless a layer looks across the batch, as BatchNorm does.",
    source="Goyal et al. 2017, section 3 (arXiv:1706.02677)",
    refuted_if="the weights after 10 epochs with 8 micro-batches of 30 differ from those with "
    "batches of 240 by more than 1e-12, relative, in a layer; or, with BatchNorm, by less than "
    "1e-3, under any seed",
)


EXPLANATION = (
    "A mini-batch's gradient is a mean over samples, so its variance falls as 1/batch and its "
    "error only as the root: four times the samples for half the error. That is why, for the same "
    "number of samples, many rough steps get further than a few exact ones; and why, as long as a "
    "step takes the same time, the large batch is free.",
    "The noise scale says up to which size the step gains from more samples. Here it is read at "
    "one step, where the gradient of all samples is as long as the last batches have just left it: "
    "the trainings that set the threshold ended at 2.5 to 2.9 times the value they began with, "
    "others end where they began.",
    "At one rate, noise throws the weights out of a narrow valley which exact steps would follow "
    "down. The training losses are nearly the same.",
    "Accumulated gradients are the same sum in other brackets, so only rounding differs. BatchNorm "
    "takes its mean and variance from 30 samples instead of 240, which is another function.",
)


def _fit(
    size: int,
    rate: float,
    seed: int,
    backprop: Backprop,
    options: Options,
    epochs: int,
    *,
    callbacks: Sequence[dict[str, Any]] = (),
    trainer: dict[str, Any] | None = None,
    **network: Any,
) -> dict[str, Any]:
    """A configuration, evaluated 30 times or after every step."""
    steps = max(1, epochs) * -(-SAMPLES // size)
    return configs.fit(
        network=configs.item("lightning_modules.networks.MLP", hidden=[64], **network),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.0),
        data=configs.item("lightning_modules.data.Digits", batch_size=size, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=epochs,
        evaluate_every=max(1, steps // 30),
        accelerator=options.accelerator,
        callbacks=callbacks,
        trainer=trainer,
    )


NOISY = ("8", "32")
"""The trainings whose gradient noise is measured; the short form has the first of them."""


def trial(
    arm: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training with one batch size, for ten epochs; with single samples for one."""
    callbacks = []
    if phase == "final":
        callbacks.append(configs.item("experiments.training.sharpness.Sharpness"))
    if phase == "final" and arm in NOISY:
        callbacks.append(
            configs.item(
                "experiments.training.gradient_noise.GradientNoise",
                sizes=list(NOISE),
                draws=10 if options.fast else 50,
            )
        )
    epochs = 1 if options.fast or arm == "1" else 10
    config = _fit(int(arm), rate, seed, backprop, options, epochs, callbacks=callbacks)
    labels = {"phase": phase, "arm": arm, "rate": rate, "seed": seed}
    title = f"{phase}-{arm}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{arm}/seed{seed}-{backprop}" if phase == "final" else "")


def equal_steps(arm: str, seed: int, options: Options) -> Trial:
    """One training with one batch size for 600 steps."""
    config = _fit(
        int(arm),
        0.3,
        seed,
        options.backprop,
        options,
        epochs=-1,
        callbacks=[configs.item("experiments.training.sharpness.Sharpness", every_n_steps=30)],
        trainer={"max_steps": 60 if options.fast else 600, "val_check_interval": 50},
    )
    labels = {"phase": "equal steps", "arm": arm, "rate": 0.3, "seed": seed}
    return Trial(f"steps-{arm}-seed{seed}-{options.backprop}", labels, config)


def in_parts(size: int, parts: int, norm: str | None, seed: int, options: Options) -> Trial:
    """One training with batches of ``size * parts``, each in so many parts."""
    arm = f"{parts} x {size}" if parts > 1 else f"{size}"
    config = _fit(
        size,
        0.3,
        seed,
        options.backprop,
        options,
        epochs=1 if options.fast else 10,
        trainer={"accumulate_grad_batches": parts},
        normalization=norm,
    )
    labels = {"phase": "accumulation", "arm": arm, "norm": norm or "", "rate": 0.3, "seed": seed}
    title = f"accumulation-{arm.replace(' ', '')}-{norm or 'plain'}-seed{seed}-{options.backprop}"
    return Trial(title, labels, config)


def plan(options: Options) -> Plan:
    """Tune each batch size's rate, then compare."""
    rates = {arm: grid for arm, grid in RATES.items() if arm == SHORT or not options.fast}
    tuning = yield from tune(trial, rates, options, widen=1)
    best = best_rates(tuning)
    seeds = options.range(3)
    final = yield [
        trial(arm, best[arm], seed, options.backprop, options, "final")
        for arm in best
        for seed in seeds
    ]
    equal = yield [
        equal_steps(arm, seed, options)
        for arm in EQUAL
        for seed in seeds
        if arm != "128" or not options.fast
    ]
    parts = yield [
        in_parts(size, parts, norm, seed, options)
        for size, parts in ((240, 1), (30, 8))
        for norm in (None, "BatchNorm1d")
        for seed in seeds
    ]
    found = figures.Parts(tuning, best, final, equal, parts)
    return Findings(
        verdicts=_verdicts(found, options),
        tables=_tables(found),
        figures=figures.figures(found),
        agreement=second_order([*final, *equal]),
        warnings=at_an_end(tuning, options),
        explanation=EXPLANATION,
    )


def slopes(result: Result) -> list[float]:
    """The slope of the log of the noise against the log of the batch, at the start and the end."""
    sizes = np.array(NOISE, dtype=float)
    return [
        float(np.polyfit(np.log(sizes), np.log(figures.noise(result, NOISE, when) / sizes), 1)[0])
        for when in (0, -1)
    ]


def scales(result: Result) -> list[float]:
    """The simple noise scale tr(S) / |G|^2, in samples, at the start and the end."""
    return [
        float(np.mean(figures.noise(result, NOISE, when)))
        / float(result.curves["noise/gradient"][when])
        for when in (0, -1)
    ]


def sharpness(result: Result) -> float:
    """The sharpness at the end."""
    return float(result.curves["sharpness/value"][-1])


def apart(parts: Sequence[Result], norm: str) -> list[float]:
    """The largest relative difference of a parameter between a batch and its parts, by seed."""
    found = [r for r in parts if r.trial.labels["norm"] == norm]
    pairs = zip(by_arm(found, "240"), by_arm(found, "8 x 30"), strict=True)
    return [max(_differences(one.weights(), other.weights())) for one, other in pairs]


def _differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> list[float]:
    return [
        float(np.linalg.norm(one[name] - other[name]) / np.linalg.norm(one[name])) for name in one
    ]


def _verdicts(parts: figures.Parts, options: Options) -> list[Verdict]:
    noisy = [r for r in parts.final if r.trial.labels["arm"] in NOISY]
    slope = [value for r in noisy for value in slopes(r)]
    growth = [scales(r) for r in noisy]
    first, last = np.mean(growth, axis=0)
    accuracy = {
        arm: float(np.mean([r.metrics["test/accuracy"] for r in by_arm(parts.final, arm)]))
        for arm in parts.best
    }
    winner = max(accuracy, key=accuracy.__getitem__)
    ends = {arm: [sharpness(r) for r in by_arm(parts.equal, arm)] for arm in EQUAL}
    ratios = [big / small for small, big in zip(ends["16"], ends["600"], strict=True)]
    plain, normed = (apart(parts.parts, norm) for norm in ("", "BatchNorm1d"))
    return [
        judge(
            FALLS,
            all(-1.1 <= value <= -0.9 for value in slope),
            f"slopes {min(slope):.2f} to {max(slope):.2f}",
            options,
            short=True,
        ),
        judge(
            GROWS,
            all(end > 1.5 * start for start, end in growth),
            f"noise scale {first:.0f} samples before the first step, {last:.0f} at the end",
            options,
        ),
        judge(
            SMALL,
            2 <= int(winner) <= 32,
            "test accuracy: " + ", ".join(f"{a} {x:.1%}" for a, x in accuracy.items()),
            options,
        ),
        judge(
            SHARP,
            all(ratio > 1.3 for ratio in ratios),
            "sharpness at the end: "
            + ", ".join(f"{arm} {np.mean(xs):.2f}" for arm, xs in ends.items() if xs),
            options,
        ),
        judge(
            SAME,
            max(plain) <= 1e-12 and min(normed) >= 1e-3,
            f"relative difference of the weights {max(plain):.1e}, with BatchNorm "
            f"{min(normed):.2g}",
            options,
            short=True,
        ),
    ]


def _tables(parts: figures.Parts) -> list[Table]:
    rows = [
        (
            arm,
            f"{rate:g}",
            f"{len(own[0].curves['train/loss'])}",
            plus_minus([late_loss(r) for r in own], ".3f"),
            f"{plus_minus([r.metrics['test/accuracy'] for r in own], '.1f', 100)} %",
            plus_minus([sharpness(r) for r in own], ".2f"),
        )
        for arm, rate in parts.best.items()
        for own in [by_arm(parts.final, arm)]
    ]
    epochs = Table(
        "Batches of every size, ten epochs each",
        ("batch", "tuned lr", "steps", "training loss", "test accuracy", "sharpness"),
        rows,
        note=f"{over(len(parts.final) // len(rows))} Single samples: one epoch. Training loss: "
        "mean of the last tenth. Sharpness: largest eigenvalue of the Hessian of the training "
        "loss, at the end.",
    )
    steps = Table(
        "Equally many steps at rate 0.3",
        ("batch", "training loss", "test accuracy", "sharpness"),
        [
            (
                arm,
                plus_minus([late_loss(r) for r in own], ".3f"),
                f"{plus_minus([r.metrics['test/accuracy'] for r in own], '.1f', 100)} %",
                plus_minus([sharpness(r) for r in own], ".2f"),
            )
            for arm in EQUAL
            for own in [by_arm(parts.equal, arm)]
            if own
        ],
        note="600 steps: the larger batch sees as many times more samples.",
    )
    noise = Table(
        "Gradient noise",
        ("batch in training", "noise scale, start", "end", "slope, start", "end"),
        [
            (
                arm,
                *(plus_minus([scales(r)[i] for r in own], ".1f") for i in (0, 1)),
                *(plus_minus([slopes(r)[i] for r in own], ".2f") for i in (0, 1)),
            )
            for arm in NOISY
            for own in [by_arm(parts.final, arm)]
            if own
        ],
        note="Noise scale: the batch, in samples, at which noise and gradient are equally long. "
        "Slope: of the log of the noise against the log of the batch.",
    )
    sums = Table(
        "One batch in parts",
        ("network", "largest relative difference of a weight tensor"),
        [
            (name, ", ".join(agreement.text(x) for x in apart(parts.parts, norm)))
            for name, norm in (("without normalization", ""), ("BatchNorm", "BatchNorm1d"))
        ],
        note="Batches of 240 against 8 micro-batches of 30, at the end; one number a seed.",
    )
    return [epochs, steps, noise, sums]


STUDY = Study(
    name="batch_size",
    question=(__doc__ or "").partition("\n")[0],
    predictions=(FALLS, GROWS, SMALL, SHARP, SAME),
    scientific={"batch": ", ".join(RATES) + " (all)", "micro-batches": "1 and 8"},
    nuisance={
        "learning rate": "tuned for each batch size on three rates of a grid 1, 3, 10, ... by the "
        f"mean validation loss over the training, on seed {SEED}; a grid whose last rate is best "
        "is widened once; 0.3 for equally many steps, and in parts"
    },
    fixed={
        "data": "scikit-learn's digits: 1200 to train, 200 to validate, 397 to test",
        "network": "64-64-10 with ReLU",
        "optimizer": "plain SGD",
        "length": "10 epochs (single samples: 1); 600 steps where these are equal",
        "precision": "float64",
    },
    metric="test accuracy; sharpness; |g - G|^2; relative difference of the weights",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=figures.COLOURS,
)
