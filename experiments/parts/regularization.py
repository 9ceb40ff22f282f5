"""The arms of the study ``regularization``, what it measures on them, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.figures import style
from experiments.measures import by_arm
from experiments.statistics import over, plus_minus
from experiments.study import Table
from experiments.trial import Result


@dataclass(frozen=True)
class Arm:
    """What is done against overfitting: its colour, and the strengths to try."""

    name: str
    colour: str
    strengths: Sequence[float] = (0.0,)


NOTHING, DROPOUT, DECAY, STOPPING = ARMS = (
    Arm("nothing", style.RED),
    Arm("dropout", style.BLUE, (0.5, 0.7, 0.8, 0.9)),
    Arm("weight decay", style.GREEN, (0.003, 0.01, 0.02, 0.05)),
    Arm("early stopping", style.ORANGE),
)
COLOURS = {arm.name: arm.colour for arm in ARMS}


def validated(result: Result) -> float:
    """The validation loss over the last tenth of the evaluations; infinite if it is not finite."""
    losses = result.curves["val/loss"]
    end = float(np.mean(losses[-max(1, len(losses) // 10) :]))
    return end if np.isfinite(end) else np.inf


def kept(result: Result) -> int:
    """Which evaluation's weights count: the last, or of a stopped training the best one's."""
    stopped = result.trial.labels["arm"] == STOPPING.name
    losses = result.curves["val/loss"]
    return int(np.argmin(losses)) if stopped else len(losses) - 1


def at_the_end(result: Result, curve: str) -> float:
    """One number of the weights that count."""
    return float(result.curves[curve][kept(result)])


def gap(result: Result) -> float:
    """The loss on the unseen images less that on the seen ones."""
    return at_the_end(result, "unseen/loss") - at_the_end(result, "seen/loss")


def compared(final: Sequence[Result], best: Mapping[str, float]) -> Table:
    """Loss on the seen and the unseen images, and the gap."""
    rows = []
    for arm in ARMS:
        own = by_arm(final, arm.name)
        seen, unseen, right, wrong = (
            [at_the_end(r, curve) for r in own]
            for curve in ("seen/loss", "unseen/loss", "unseen/accuracy", "memorised")
        )
        rows.append(
            (
                f"{arm.name} {best[arm.name]:g}" if best[arm.name] else arm.name,
                f"{np.mean(seen):.2f}",
                plus_minus(unseen, ".2f"),
                plus_minus([gap(r) for r in own], ".2f"),
                plus_minus(right, ".1f", scale=100) + " %",
                f"{np.mean(wrong):.0%}",
            )
        )
    return Table(
        "200 images, 40 of them with a wrong label",
        ("against it", "seen", "unseen", "gap", "accuracy", "memorised"),
        rows,
        note=f"{over(len(final) // len(ARMS))} Seen: loss (nats) on the rightly labelled training "
        "images; unseen: on the test images; gap: the difference. Accuracy: on the test images. "
        "Memorised: wrong labels that the network reproduces.",
    )


def tuned(tuning: Sequence[Result], best: Mapping[str, float]) -> Table:
    """The strengths, and what the validation part says of each."""
    rows = [
        (
            r.trial.labels["arm"],
            f"{r.trial.labels['strength']:g}",
            f"{validated(r):.3f}",
            f"{r.curves['val/accuracy'][-1]:.1%}",
            "chosen" if r.trial.labels["strength"] == best[r.trial.labels["arm"]] else "",
        )
        for r in tuning
    ]
    return Table(
        "How much of it: the strengths that were tried",
        ("against it", "strength", "validation loss", "accuracy", ""),
        rows,
        note="Of dropout the probability of dropping a hidden value, of weight decay the factor of "
        "|w|^2 / 2 in the loss; by the validation loss over the last tenth of the training.",
    )
