"""Why did deep networks give up the sigmoid: what does an activation do to the gradient?

Eight hidden layers on digits, once with each activation, at the learning rate that suits it best.
The gradient is looked at layer by layer before the first step, and the units at the end. The
thresholds were set by runs on seeds 101 and 102.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
from experiments.tuning import BY, WIDENED, at_an_end, best_rates, tune

RATES = (0.003, 0.01, 0.03)
DEPTH, WIDTH = 8, 64


@dataclass(frozen=True)
class Arm:
    """An activation: its class in ``nn``, its weights at the start, its colour."""

    name: str
    initialization: str | float
    colour: str


ARMS = (
    Arm("Sigmoid", "xavier", style.RED),
    Arm("Tanh", "xavier", style.ORANGE),
    Arm("ReLU", "kaiming", style.BLUE),
    Arm("LeakyReLU", "kaiming", style.SKY),
    Arm("ELU", "kaiming", style.GREEN),
    Arm("SELU", WIDTH**-0.5, style.PINK),  # variance 1/n: Klambauer et al. 2017, section 3
    Arm("GELU", "kaiming", style.GREY),
)
COLOURS = {arm.name: arm.colour for arm in ARMS}

VANISHES = Prediction(
    claim="Through sigmoids the gradient vanishes: each layer takes at least three quarters of it, "
    "since the slope is at most 1/4. ReLU passes it on.",
    source="Hochreiter 1991; Glorot & Bengio 2010, section 3; Nielsen 2015, chapter 5",
    refuted_if="before the first step the standard deviation of dL/dy at layer 1 is above 0.001 of "
    "that at layer 8 for Sigmoid, or outside 0.3 to 3 of it for ReLU, under any seed",
)
LEARNS = Prediction(
    claim="So eight sigmoid layers do not learn where eight layers of any other activation do.",
    source="Glorot & Bengio 2010, section 3.1; Nair & Hinton 2010; Glorot et al. 2011",
    refuted_if="the training loss over the last tenth of the training is below 2.0 for Sigmoid, or "
    "above 0.5 for another activation, under any seed",
)
DIES = Prediction(
    claim="Only ReLU has dead units: an unlucky one answers 0 to every input and gets no gradient "
    "to come back; LeakyReLU was made against this.",
    source="Maas et al. 2013, section 2; He et al. 2015 (arXiv:1502.01852)",
    refuted_if="at the end no unit of ReLU's networks is without gradient for the whole batch, or "
    "a unit of another activation's is",
)

PREDICTIONS = (VANISHES, LEARNS, DIES)
SHORT = (VANISHES, DIES)
"""Those that the short form decides too."""


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of the network with one activation."""
    arm = next(arm for arm in ARMS if arm.name == name)
    final = phase == "final"
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.MLP",
            hidden=[WIDTH] * DEPTH,
            activation=arm.name,
            initialization=arm.initialization,
        ),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.9),
        data=configs.item("lightning_modules.data.Digits", batch_size=64, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=1 if options.fast else 30,
        evaluate_every=19,
        accelerator=options.accelerator,
        histograms_every=50 if final else 0,
        callbacks=[
            configs.item(
                "experiments.training.by_layer.ByLayer", layers=[arm.name], every_n_steps=15
            )
        ]
        if final
        else [],
    )
    labels = {"phase": phase, "arm": arm.name, "rate": rate, "seed": seed}
    title = f"{phase}-{arm.name}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{arm.name}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Tune each activation's rate, then compare."""
    tuning = yield from tune(trial, dict.fromkeys(COLOURS, RATES), options, widen=2)
    best = best_rates(tuning)
    final: list[Result] = yield [
        trial(arm, best[arm], seed, options.backprop, options, "final")
        for arm in COLOURS
        for seed in options.range(3)
    ]
    return Findings(
        verdicts=_verdicts(final, options),
        tables=[_table(final, best)],
        figures=_figures(final),
        warnings=at_an_end(tuning, options),
    )


def dead(result: Result) -> float:
    """The share of all hidden units without gradient at the end."""
    return float(layers(result, "dead", -1).mean())


def _verdicts(final: Sequence[Result], options: Options) -> list[Verdict]:
    left, ends, lost = (
        {arm.name: [measure(r) for r in by_arm(final, arm.name)] for arm in ARMS}
        for measure in (kept, late_loss, dead)
    )
    others = [arm.name for arm in ARMS if arm.name != "Sigmoid"]
    holds = (
        max(left["Sigmoid"]) <= 0.001 and 0.3 <= min(left["ReLU"]) and max(left["ReLU"]) <= 3,
        min(ends["Sigmoid"]) >= 2.0 and max(max(ends[name]) for name in others) <= 0.5,
        min(lost["ReLU"]) > 0 and not any(max(lost[a.name]) for a in ARMS if a.name != "ReLU"),
    )
    worst = max(others, key=lambda name: max(ends[name]))
    share = {name: f"{np.mean(found):.1%}" for name, found in lost.items()}
    measured = (
        "gradient at layer 1 over layer 8: "
        f"Sigmoid {np.mean(left['Sigmoid']):.1e}, ReLU {np.mean(left['ReLU']):.2f}",
        f"training loss at the end: Sigmoid {np.mean(ends['Sigmoid']):.2f}, the highest other "
        f"({worst}) {max(ends[worst]):.3f}",
        f"dead units at the end: ReLU {share['ReLU']}, LeakyReLU {share['LeakyReLU']}",
    )
    return judge_all(PREDICTIONS, holds, measured, options, short=SHORT)


def _table(final: Sequence[Result], best: dict[str, float]) -> Table:
    rows = [
        (
            name,
            f"{rate:g}",
            f"{np.mean([kept(r) for r in by_arm(final, name)]):.2g}",
            plus_minus([late_loss(r) for r in by_arm(final, name)], ".3f"),
            plus_minus([r.metrics["test/accuracy"] for r in by_arm(final, name)], ".1f", 100)
            + " %",
            f"{np.mean([dead(r) for r in by_arm(final, name)]):.1%}",
        )
        for name, rate in best.items()
    ]
    seeds = len(final) // len(ARMS)
    return Table(
        "Eight layers of each activation, each at its own learning rate",
        ("activation", "lr", "gradient, 1 over 8", "training loss", "test accuracy", "dead"),
        rows,
        note=f"{over(seeds)} "
        "Gradient: standard deviation of dL/dy at layer 1 over that at layer 8, before the first "
        "step. Training loss: mean of the last tenth; chance is 2.303. Dead: units without "
        "gradient for a whole batch of 64, at the end.",
    )


def _figures(final: Sequence[Result]) -> list[Figure]:
    relative = arms.by_layer("gradient")

    def share(result: Result) -> tuple[arms.Array, arms.Array]:
        layer, spread = relative(result)
        return layer, spread / spread[-1]

    def lost(result: Result) -> tuple[arms.Array, arms.Array]:
        names = [name for name in result.curves if name.startswith("dead/")]
        values = np.mean([result.curves[name] for name in names], axis=0)
        return np.arange(len(values)) * 15, 100 * values

    return [
        Figure(
            "gradient",
            "The gradient on its way back",
            "Standard deviation of dL/dy at each layer over that at layer 8, before the first "
            "step, on a log axis. Read it from right to left, as the gradient travels: through "
            "sigmoids a straight line down, the same factor at every layer.",
            lambda: arms.curves(
                final,
                COLOURS,
                share,
                xlabel="layer",
                ylabel="gradient, relative to layer 8",
                yscale="log",
                columns=4,
            ),
        ),
        Figure(
            "signal",
            "The signal on its way up",
            "Standard deviation of each layer's outputs over the batch and the units, before the "
            "first step. SELU is built to keep it near 1; a sigmoid's outputs hardly differ.",
            lambda: arms.curves(
                final,
                COLOURS,
                arms.by_layer("output"),
                xlabel="layer",
                ylabel="output, standard deviation",
                yscale="log",
                columns=4,
            ),
        ),
        Figure(
            "loss",
            "Training",
            "Training loss, averaged over an epoch (19 steps), on a log axis; line: geometric mean "
            "over the seeds, band: lowest to highest.",
            lambda: arms.curves(
                final,
                COLOURS,
                arms.by_step("train/loss", 19),
                xlabel="training step",
                ylabel="training loss (nats)",
                yscale="log",
                columns=4,
            ),
        ),
        Figure(
            "dead",
            "Dead units",
            "Share of hidden units without gradient for a whole batch, every 15 steps. Only ReLU's "
            "line leaves zero.",
            lambda: arms.curves(
                final,
                COLOURS,
                lost,
                xlabel="training step",
                ylabel="units without gradient (%)",
                columns=4,
            ),
        ),
    ]


STUDY = Study(
    name="activations",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"activation": ", ".join(arm.name for arm in ARMS)},
    nuisance={
        "learning rate": f"tuned for each activation on {RATES} {BY}; {WIDENED}",
        "initialization": "the one made for it: Xavier for Sigmoid and Tanh, variance 1/n for "
        "SELU, Kaiming for the others",
    },
    fixed={
        "data": configs.DIGITS,
        "network": f"64-{WIDTH}x{DEPTH}-10",
        "optimizer": "SGD, momentum 0.9",
        "batch": "64",
        "length": "30 epochs, 570 steps",
        "precision": "float64",
    },
    metric="standard deviation of dL/dy by layer; training loss over the last tenth; dead units",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
)
