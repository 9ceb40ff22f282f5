"""Manual against autograd: what the trials found that trained both in step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.trial import Array, Result

LIMIT = 1e-9
"""The largest relative difference that passes for rounding in float64."""


@dataclass(frozen=True)
class Pair:
    """A training by hand and the same by autograd, in step.

    Attributes:
        result: The trial.
        steps: The relative difference of the loss at each step.
        loss: Its largest value.
        gradients: The largest relative difference of a layer's gradient at any step.
        weights: The same of a layer's weights.
        same_weights: The largest difference of a layer's gradient at the same weights.
        parted: Where the two trainings part beyond rounding first; empty when nowhere.
        wrong: Where the gradients at the same weights do; empty when nowhere.
    """

    result: Result
    steps: Array
    loss: float
    gradients: float
    weights: float
    same_weights: float
    parted: str
    wrong: str


def pairs(results: Sequence[Result]) -> list[Pair]:
    """What was compared in those of the trials that trained both in step."""
    found = []
    for result in results:
        if result.compared is not None:
            steps = result.curves["error/loss"]
            unexplained = None if result.compared["probes"] else result.compared["parted"]
            found.append(
                Pair(
                    result=result,
                    steps=steps,
                    loss=float(np.max(steps)),
                    gradients=max(result.compared["gradients"].values()),
                    weights=max(result.compared["weights"].values()),
                    same_weights=result.compared["same_weights"],
                    parted=result.compared["parted"] or "",
                    wrong=result.compared["wrong"] or unexplained or "",
                )
            )
    return found


def text(difference: float) -> str:
    """A difference in two digits; a plain 0 when every bit is the same."""
    return f"{difference:.1e}" if difference else "0"


def verdict(results: Sequence[Result]) -> tuple[str, bool | None]:
    """A few sentences on the agreement and the audit, and whether all is well.

    All is well when no two trainings part beyond rounding. Where two do, their gradients at the
    same weights decide: if these agree, the training has amplified rounding (one near instability
    does), and it is said so; if not, a gradient is wrong.

    Returns:
        The sentences; and None when neither agreement nor audit could be looked at.
    """
    audited = [r for r in results if r.trial.backprop != "autograd"]
    failed = [r.trial.name for r in audited if not r.all_by_hand]
    matched = pairs(results)
    sentences, well = [], True
    if matched:
        close = [pair for pair in matched if not pair.parted]
        amplified = [pair for pair in matched if pair.parted and not pair.wrong]
        wrong = [pair for pair in matched if pair.wrong]
        well = not wrong
        sentences.append(_agreement(close, len(matched), well))
        if amplified:
            first = amplified[0]
            sentences.append(
                f"In {len(amplified)} of {len(matched)} the training amplifies rounding until the "
                f"two part, in {first.result.trial.name} first in {first.parted}; at the same "
                f"weights their gradients agree to {text(max(p.same_weights for p in amplified))}."
            )
        if wrong:
            sentences.append(
                f"In {len(wrong)} of {len(matched)} gradients differ at the same weights: in "
                f"{wrong[0].result.trial.name} first {wrong[0].wrong}."
            )
    else:
        sentences.append("Only one kind of gradients was run, so there is nothing to compare.")
    if failed:
        sentences.append(f"The audit found autograd nodes in {', '.join(failed)}.")
    elif audited:
        sentences.append(
            f"The audit found every gradient of all {len(audited)} manual "
            f"{'trial' if len(audited) == 1 else 'trials'} by hand."
        )
    if not matched and not audited:
        return sentences[0], None
    return " ".join(sentences), well and not failed


def _agreement(close: Sequence[Pair], count: int, well: bool) -> str:
    said = f"Manual and autograd {'agree' if well else 'PART'}"
    if not close:
        return f"{said}."
    loss, gradients, weights = (
        text(max(getattr(pair, what) for pair in close))
        for what in ("loss", "gradients", "weights")
    )
    which = "" if len(close) == count else f"of {count} "
    trainings = "training" if count == 1 else "trainings"
    return (
        f"{said}: over {len(close)} {which}{trainings} in step the largest relative difference is "
        f"{loss} in the loss of any step, {gradients} in a layer's gradient and {weights} in its "
        f"weights (limit {LIMIT:.0e})."
    )
