"""How many samples should a step look at: one, some, or all?

The same small network on digits with batches of every size, each at the learning rate that suits
it, for the same number of epochs; at the same rate, for the same number of steps; and one batch in
parts. Beside the losses the noise of the gradients is measured, and the sharpness of where they
end. The thresholds were set by runs on seeds 101 and 102.
"""

from experiments import configs
from experiments.figures import batch_size as figures
from experiments.measures import second_order
from experiments.parts.batch_size import accumulation, equal_epochs, equal_steps, noise
from experiments.study import Findings, Options, Plan, Study
from experiments.tuning import BY, WIDENED, at_an_end, best_rates, tune

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


def plan(options: Options) -> Plan:
    """Tune each batch size's rate, then compare."""
    rates = equal_epochs.RATES
    if options.fast:
        rates = {equal_epochs.SHORT: rates[equal_epochs.SHORT]}
    tuning = yield from tune(equal_epochs.trial, rates, options, widen=1)
    best = best_rates(tuning)
    final = yield equal_epochs.trials(best, options)
    equal = yield equal_steps.trials(options)
    parts = yield accumulation.trials(options)
    return Findings(
        verdicts=[
            *noise.verdicts(final, options),
            equal_epochs.verdict(final, best, options),
            equal_steps.verdict(equal, options),
            accumulation.verdict(parts, options),
        ],
        tables=[
            equal_epochs.table(final, best),
            equal_steps.table(equal),
            noise.table(final),
            accumulation.table(parts),
        ],
        figures=figures.figures(figures.Parts(tuning, best, final, equal, parts)),
        agreement=second_order([*final, *equal]),
        warnings=at_an_end(tuning, options),
        explanation=EXPLANATION,
    )


STUDY = Study(
    name="batch_size",
    question=(__doc__ or "").partition("\n")[0],
    predictions=(
        noise.FALLS,
        noise.GROWS,
        equal_epochs.PREDICTION,
        equal_steps.PREDICTION,
        accumulation.PREDICTION,
    ),
    scientific={"batch": ", ".join(equal_epochs.RATES) + " (all)", "micro-batches": "1 and 8"},
    nuisance={
        "learning rate": f"tuned for each batch size on three rates of a grid 1, 3, 10, ... {BY}; "
        f"{WIDENED}; 0.3 for equally many steps, and in parts"
    },
    fixed={
        "data": configs.DIGITS,
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
