"""Each arm at the learning rate that suits it best."""

from collections.abc import Callable, Generator, Mapping, Sequence

from experiments.measures import best_rate, by_arm, costs
from experiments.study import Backprop, Options
from experiments.trial import Result, Trial

SEED = 1000
"""Of the trials that tune; the seeds that answer are 0, 1, 2 ..."""
BY = f"by the mean validation loss over the training, on seed {SEED}"
"""How a rate is chosen, for what a study says of its nuisance parameters."""
WIDENED = "a grid whose last rate is best goes on"
"""And what ``widen`` does."""

MakeTrial = Callable[[str, float, int, Backprop, Options, str], Trial]
"""Makes a trial of an arm, a rate, a seed, the kind of gradients, the options and a phase."""


def tune(
    trial: MakeTrial,
    rates: Mapping[str, Sequence[float]],
    options: Options,
    *,
    seeds: Sequence[int] = (SEED,),
    widen: int = 0,
    curve: str = "val/loss",
) -> Generator[list[Trial], list[Result], list[Result]]:
    """Train each arm at each of its rates; to be taken up by a plan with ``yield from``.

    The short form tries one rate of each arm, the middle one, on one seed.

    Args:
        trial: Makes a trial; its label "arm" is the arm and its label "rate" the rate.
        rates: The rates to try, by arm, in increasing order, on a grid 1, 3, 10 ...
        options: How the study is run.
        seeds: On which seeds.
        widen: How often a grid whose first or last rate is the best goes on by one rate.
        curve: Whose mean over the training is the least at the best rate.

    Returns:
        The results; see :func:`best_rates`.
    """
    if options.fast:
        rates = {arm: [grid[len(grid) // 2]] for arm, grid in rates.items()}
        seeds, widen = seeds[:1], 0
    results: list[Result] = []
    wanted = [(arm, rate) for arm, grid in rates.items() for rate in grid]
    while wanted:
        results += yield [
            trial(arm, rate, seed, options.tuning, options, "tuning")
            for arm, rate in wanted
            for seed in seeds
        ]
        wanted = [(arm, rate) for arm in rates for rate in beyond(by_arm(results, arm), curve)]
        if widen == 0:
            break
        widen -= 1
    return results


def best_rates(tuning: Sequence[Result], curve: str = "val/loss") -> dict[str, float]:
    """The best learning rate of each arm."""
    arms = dict.fromkeys(result.trial.labels["arm"] for result in tuning)
    return {arm: best_rate(by_arm(tuning, arm), curve) for arm in arms}


def at_an_end(tuning: Sequence[Result], options: Options, curve: str = "val/loss") -> list[str]:
    """A warning for each arm whose best rate is the first or last that was tried."""
    if options.fast:
        return []
    return [
        f"The best learning rate of {arm}, {rate:g}, is the last of its grid: a better one may lie "
        "beyond."
        for arm, rate in best_rates(tuning, curve).items()
        if beyond(by_arm(tuning, arm), curve)
    ]


def beyond(tuning: Sequence[Result], curve: str = "val/loss") -> list[float]:
    """The next rate of the grid 1, 3, 10 ... when the best one is the grid's last."""
    rates, best = list(costs(tuning, curve)), best_rate(tuning, curve)
    leading_three = f"{best:e}".startswith("3")
    if best == rates[0]:
        return [float(f"{best / (3 if leading_three else 10 / 3):.0e}")]
    if best == rates[-1]:
        return [float(f"{best * (10 / 3 if leading_three else 3):.0e}")]
    return []
