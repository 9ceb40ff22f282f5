"""What is measured on a finished training."""

from collections.abc import Sequence

import numpy as np

from experiments.trial import Array, Result


def by_arm(results: Sequence[Result], arm: str) -> list[Result]:
    """The results of one arm."""
    return [result for result in results if result.trial.labels["arm"] == arm]


def costs(results: Sequence[Result], curve: str = "val/loss") -> dict[float, list[float]]:
    """What each learning rate costs: the mean validation loss of the training, one a seed.

    It is the area under the validation curve: small for a training that is quick and ends well,
    and steadier than the step at which a threshold is crossed. Infinite when the loss is not
    finite. A question about the training itself may take another ``curve``.
    """
    found: dict[float, list[float]] = {}
    for result in sorted(results, key=lambda result: result.trial.labels["rate"]):
        cost = float(np.mean(result.curves[curve]))
        rate = result.trial.labels["rate"]
        found.setdefault(rate, []).append(cost if np.isfinite(cost) else np.inf)
    return found


def best_rate(results: Sequence[Result], curve: str = "val/loss") -> float:
    """The learning rate with the least mean cost; see :func:`costs`."""
    found = costs(results, curve)
    return min(found, key=lambda rate: float(np.mean(found[rate])))


def steps_to(accuracy: float, result: Result) -> float:
    """The first evaluated step with that validation accuracy; infinite if there is none."""
    reached = np.flatnonzero(result.curves["val/accuracy"] >= accuracy)
    return float(result.curves["val/step"][reached[0]]) if reached.size else np.inf


def late_loss(result: Result) -> float:
    """The mean training loss of the last tenth of the training."""
    losses = result.curves["train/loss"]
    return float(np.mean(losses[-_tenth(len(losses)) :]))


def step_shrinkage(result: Result) -> float:
    """The length of a step over the gradient's: in the last tenth, over that in the first."""
    ratios = result.curves["step/ratio"]
    tenth = _tenth(len(ratios))
    return float(np.median(ratios[-tenth:]) / np.median(ratios[:tenth]))


def layers(result: Result, quantity: str, step: int = 0) -> Array:
    """One quantity of all layers, from the input's side on, at one of the steps looked at.

    It is what :class:`experiments.training.by_layer.ByLayer` kept.
    """
    names = [name for name in result.curves if name.startswith(f"{quantity}/")]
    ordered = sorted(names, key=lambda name: int("".join(filter(str.isdigit, name)) or 0))
    return np.array([result.curves[name][step] for name in ordered])


def kept(result: Result) -> float:
    """How much of the last hidden layer's gradient is left at the first, before the first step."""
    spread = layers(result, "gradient")
    return float(spread[0] / spread[-1])


def second_order(results: Sequence[Result]) -> str:
    """How well products with the Hessian agree, as a sentence.

    It is what :class:`experiments.training.sharpness.Sharpness` kept. Where a training has left
    the range of numbers there is nothing to compare.
    """
    errors = [
        float(r.curves["sharpness/error"][0]) for r in results if "sharpness/error" in r.curves
    ]
    finite = [error for error in errors if np.isfinite(error)]
    return (
        "Products with the Hessian, which go through the hand-written backwards twice, agree with "
        f"autograd's to {max(finite):.1e} at the end of {len(finite)} trainings."
    )


def basin(results: Sequence[Result], within: float = 1.2) -> tuple[float, bool]:
    """How many decades of learning rates cost at most ``within`` times the least mean cost.

    Between two rates that were tried the logarithm of the rate and the cost are taken to be on a
    line; a training that diverged has no part in it.

    Returns:
        The width of the stretch around the best rate, in decades; and whether it ends within the
        rates that were tried, so that the width is more than a lower bound.
    """
    found = {rate: float(np.mean(cost)) for rate, cost in costs(results).items()}
    rates, means = np.log10(list(found)), np.array(list(found.values()))
    best = int(np.argmin(means))
    limit = within * means[best]
    edges, closed = [], True
    for way in (-1, 1):
        at = best
        while 0 <= at + way < len(means) and means[at + way] <= limit:
            at += way
        edge = rates[at]
        if not 0 <= at + way < len(means):
            closed = False
        elif np.isfinite(means[at + way]):
            share = (limit - means[at]) / (means[at + way] - means[at])
            edge += share * (rates[at + way] - rates[at])
        edges.append(edge)
    return float(edges[1] - edges[0]), closed


def _tenth(count: int) -> int:
    return max(1, count // 10)
