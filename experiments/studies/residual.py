"""Why does a plain network with more layers learn less, and what do shortcuts change?

He et al. 2015 found a 56-layer network with a higher error than a 20-layer one, in training, so
that it is no overfitting; and that shortcuts remove it. Here the four networks are fully connected,
with BatchNorm, 32 units wide, on digits, each at the learning rate that suits it best; the gradient
is looked at layer by layer before the first step. The rates are tuned by the training loss, which
is what is asked about. At first they were tuned by the validation loss, which gave the 56 plain
layers ever smaller rates, at which they train worse: BatchNorm's running averages lag behind at
first and make that loss astronomically large, the more so the higher the rate. The thresholds were
set by runs on seeds 101 and 102; the last claim was first made of the gradient before the first
step, where those seeds, and seed 0 in the short form, showed it to be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments import configs
from experiments.figures import residual as figures
from experiments.figures import style
from experiments.measures import by_arm, late_loss
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
from experiments.trial import Result, Trial
from experiments.tuning import SEED, WIDENED, at_an_end, best_rates, tune

RATES = (0.003, 0.01, 0.03)
CRITERION = "train/loss"
"""The curve whose mean is the least at the best rate."""
WIDTH, BATCH = 32, 120
EVERY = 10
"""Steps from one look at the gradients to the next."""
LATE = 200
"""A step at which a network that can learn has done so."""


@dataclass(frozen=True)
class Arm:
    """A network: how many layers have weights, whether it has shortcuts, and its colour."""

    name: str
    depth: int
    shortcut: bool
    colour: str


ARMS = (
    Arm("plain 20", 20, False, style.ORANGE),
    Arm("plain 56", 56, False, style.RED),
    Arm("residual 20", 20, True, style.SKY),
    Arm("residual 56", 56, True, style.BLUE),
)
COLOURS = {arm.name: arm.colour for arm in ARMS}

DEGRADES = Prediction(
    claim="Of plain networks the deeper one has the higher error in training.",
    source="He et al. 2015, section 1 and Figure 1 (arXiv:1512.03385)",
    refuted_if="under any seed the training error of 56 plain layers is less than 20 points above "
    "that of 20",
)
SHORTCUTS = Prediction(
    claim="With shortcuts 56 layers train, better than 20 plain ones.",
    source="He et al. 2015, section 4.2 and Figure 6",
    refuted_if="under any seed the training error of 56 residual layers is above that of 20 plain "
    "ones, or above 10 %",
)
EXPLODES = Prediction(
    claim="At first BatchNorm makes the gradient of a plain network explode: each layer multiplies "
    "it by about sqrt(pi / (pi - 1)) = 1.21.",
    source="Yang et al. 2019 (arXiv:1902.08129; ReLU, wide layers, large batches)",
    refuted_if="before the first step the growth of the gradient's standard deviation a layer is "
    "outside 1.15 to 1.3 in a plain network under any seed",
)
SHORTEN = Prediction(
    claim="Shortcuts keep it within bounds.",
    source="Yang et al. 2019, abstract; Balduzzi et al. 2017 (arXiv:1702.08591)",
    refuted_if="before the first step the gradient at layer 1 of the 56 residual layers is more "
    "than 200 times that at the last hidden layer under any seed",
)
HEALTHY = Prediction(
    claim="Yet it does not fail because gradients explode or vanish on their way: while it trains, "
    "the first layer's is as large as the last's.",
    source="He et al. 2015, section 4.1; Yang et al. 2019, abstract (soon after the start)",
    refuted_if=f"at step {LATE} the gradient at layer 1 of the 56 plain layers is more than 30 "
    "times that at the last hidden layer, or less than a thirtieth of it, under any seed",
)
PREDICTIONS = (DEGRADES, SHORTCUTS, EXPLODES, SHORTEN, HEALTHY)
SHORT = (EXPLODES,)
"""Those that the short form decides too."""


def trial(
    name: str, rate: float, seed: int, backprop: Backprop, options: Options, phase: str
) -> Trial:
    """One training of one network."""
    arm = next(arm for arm in ARMS if arm.name == name)
    final = phase == "final"
    config = configs.fit(
        network=configs.item(
            "lightning_modules.networks.ResidualMLP",
            width=WIDTH,
            blocks=(arm.depth - 2) // 2,
            shortcut=arm.shortcut,
        ),
        optimizer=configs.optimizer("SGD", backprop, lr=rate, momentum=0.9),
        data=configs.item("lightning_modules.data.Digits", batch_size=BATCH, seed=seed),
        backprop=backprop,
        seed=seed,
        epochs=1 if options.fast else 30,
        evaluate_every=1 if options.fast else 10,
        accelerator=options.accelerator,
        trainer={"max_steps": 1} if options.fast else None,
        histograms_every=100 if final else 0,
        callbacks=[
            configs.item(
                "experiments.training.by_layer.ByLayer", layers=["ReLU"], every_n_steps=EVERY
            ),
            configs.item("experiments.training.training_error.TrainingError"),
        ]
        if final
        else [],
    )
    labels = {"phase": phase, "arm": name, "rate": rate, "seed": seed}
    short = name.replace(" ", "")
    title = f"{phase}-{short}-lr{rate:g}-seed{seed}-{backprop}"
    return Trial(title, labels, config, f"{short}/seed{seed}-{backprop}" if final else "")


def plan(options: Options) -> Plan:
    """Tune each network's rate, then compare; the short form takes one step, without tuning."""
    if options.fast:
        tuning: list[Result] = []
        best = dict.fromkeys(COLOURS, RATES[1])
    else:
        grid = dict.fromkeys(COLOURS, RATES)
        tuning = yield from tune(trial, grid, options, widen=2, curve=CRITERION)
        best = best_rates(tuning, CRITERION)
    final: list[Result] = yield [
        trial(arm, best[arm], seed, options.backprop, options, "final")
        for arm in COLOURS
        for seed in options.range(3)
    ]
    return Findings(
        verdicts=_verdicts(final, options),
        tables=[_table(final, best)],
        figures=figures.all_of(final, COLOURS, EVERY),
        warnings=at_an_end(tuning, options, CRITERION) if tuning else [],
        explanation=EXPLANATION if options.fast else (*EXPLANATION, _scatter(final)),
    )


def late_error(result: Result) -> float:
    """The training error over the last tenth of the training."""
    errors = result.curves["train/error"]
    return float(np.mean(errors[-max(1, len(errors) // 10) :]))


def grown(result: Result) -> float:
    """The gradient at the first hidden layer over that at the last, before the first step."""
    return float(figures.balance(result)[0])


def late_balance(result: Result) -> float:
    """The same late in the training; of a shorter one, at the last look."""
    ratios = figures.balance(result)
    return float(ratios[min(LATE // EVERY, len(ratios) - 1)])


def a_layer(result: Result) -> float:
    """By how much the gradient grows at each layer on its way back, before the first step."""
    arm = next(arm for arm in ARMS if arm.name == result.trial.labels["arm"])
    return float(grown(result) ** (1 / (arm.depth - 2)))


def _verdicts(final: Sequence[Result], options: Options) -> list[Verdict]:
    errors, growth, factors, late = (
        {arm: np.array([measure(r) for r in by_arm(final, arm)]) for arm in COLOURS}
        for measure in (late_error, grown, a_layer, late_balance)
    )
    plain, deep, residual = (errors[n] for n in ("plain 20", "plain 56", "residual 56"))
    exploding = np.concatenate([factors["plain 20"], factors["plain 56"]])
    holds = (
        np.all(deep >= plain + 0.2),
        np.all(residual <= plain) and np.all(residual <= 0.1),
        np.all(exploding >= 1.15) and np.all(exploding <= 1.3),
        np.all(growth["residual 56"] <= 200),
        np.all(late["plain 56"] <= 30) and np.all(late["plain 56"] >= 1 / 30),
    )
    measured = (
        f"training error: {_errors(errors, 'plain 20', 'plain 56')}",
        f"training error: {_errors(errors, 'plain 20', 'residual 20', 'residual 56')}",
        "growth a layer: "
        + ", ".join(f"{arm} {np.mean(factors[arm]):.2f}" for arm in ("plain 20", "plain 56")),
        f"gradient at layer 1 over the last: residual 56 {np.mean(growth['residual 56']):.0f}",
        f"gradient at layer 1 over the last: plain 56 {np.mean(growth['plain 56']):.1e} at first"
        + ("" if options.fast else f", {np.mean(late['plain 56']):.1f} at step {LATE}"),
    )
    return judge_all(PREDICTIONS, [bool(held) for held in holds], measured, options, short=SHORT)


def _scatter(final: Sequence[Result]) -> str:
    """How much the last claim owes to the step at which it looks, and to the rate."""
    ratios = [figures.balance(r)[LATE // EVERY // 2 :] for r in by_arm(final, "plain 56")]
    ranges = ", ".join(f"{min(own):.2g} to {max(own):.3g}" for own in ratios)
    return (
        f"The last claim is decided at step {LATE}, and a single step scatters: from step "
        f"{LATE // 2} on, the gradient at layer 1 of the 56 plain layers over that at the last is "
        f"{ranges} (by seed). It depends on the rate, too. When the rates were still chosen by the "
        "validation loss, which gave these layers a rate of 0.001, ten times too small to train "
        f"them, it was 63 at step {LATE}, and the claim did not reproduce."
    )


def _errors(errors: dict[str, np.ndarray], *names: str) -> str:
    return ", ".join(f"{name} {np.mean(errors[name]):.1%}" for name in names)


def _table(final: Sequence[Result], best: dict[str, float]) -> Table:
    rows = [
        (
            name,
            f"{rate:g}",
            f"{np.mean([grown(r) for r in by_arm(final, name)]):.2g}",
            plus_minus([late_loss(r) for r in by_arm(final, name)], ".2f"),
            plus_minus([late_error(r) for r in by_arm(final, name)], ".1f", 100) + " %",
            plus_minus([r.metrics["test/accuracy"] for r in by_arm(final, name)], ".1f", 100)
            + " %",
        )
        for name, rate in best.items()
    ]
    return Table(
        "Twenty and fifty-six layers, plain and residual",
        ("network", "lr", "gradient", "training loss", "training error", "test accuracy"),
        rows,
        note=f"{over(len(final) // len(ARMS))} Gradient: standard deviation of dL/dy at the first "
        "hidden layer over that at the last, before the first step. Loss and error: mean of the "
        "last tenth of the training; a network that knows nothing has 2.30 and 90 %.",
    )


EXPLANATION = (
    "A block with a shortcut has only to learn what to add to its input, and where it adds nothing "
    "it hands on the input, and the gradient, unchanged. A plain network of 56 layers could do "
    "what one of 20 does, too, if the further layers were the identity; but nothing leads it "
    "there.",
    "Where the factor of 1.21 comes from: a unit after BatchNorm is about N(0, 1), and what ReLU "
    "leaves of it has the variance (pi - 1) / (2 pi). The next BatchNorm divides by its root. On "
    "the way back the gradient's variance is thus multiplied by 2 pi / (pi - 1), of which ReLU "
    "lets one half pass: pi / (pi - 1) = 1.47 a layer, whatever the scale of the weights. After 54 "
    "layers the gradient is tens of thousands of times as large.",
    "It does not stay so. A gradient through BatchNorm shrinks as the weights before it grow, and "
    "it stands at a right angle to them, so that a step can only make them longer: the huge first "
    "steps blow up the weights of the first layers, and after some tens of steps the first layer "
    "receives a gradient as large as the last; what is left is a hump in the middle. He et al., "
    "who looked at networks in training, found the gradients healthy. The 56 plain layers fail "
    "nevertheless. Balduzzi et al. show why the size does not tell: the gradients of deep plain "
    "networks resemble white noise, which has no direction worth following.",
    "With shortcuts the branches add up, and from block to block the variance of the signal grows "
    "in equal steps, so that each further block is a smaller part of it and adds less to the "
    "gradient: its growth is a power of the depth instead of an exponential.",
)

STUDY = Study(
    name="residual",
    question=(__doc__ or "").partition("\n")[0],
    predictions=PREDICTIONS,
    scientific={"layers": "20, 56", "shortcuts": "none (plain), over every two layers (residual)"},
    nuisance={
        "learning rate": f"tuned for each network on {RATES} by the mean training loss over the "
        f"training, on seed {SEED}; {WIDENED}"
    },
    fixed={
        "data": configs.DIGITS,
        "network": f"{WIDTH} units a layer, BatchNorm, ReLU, Kaiming's weights",
        "optimizer": "SGD, momentum 0.9",
        "batch": str(BATCH),
        "length": "30 epochs, 300 steps",
        "precision": "float64",
    },
    metric="training error over the last tenth; standard deviation of dL/dy by layer",
    seeds="0, 1, 2 (weights and order of the batches)",
    plan=plan,
    arms=COLOURS,
)
