"""Manual against autograd: the two trajectories of the same trial, step by step."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics import relative_difference, weights_difference
from experiments.trial import Array, Result

LIMIT = 1e-9
"""The largest relative difference, in losses and final weights, that passes for rounding."""


@dataclass(frozen=True)
class Pair:
    """A trial by hand and the same by autograd.

    Args:
        manual: The one.
        autograd: The other.
        steps: The relative difference of the loss at each step.
        loss: Its largest value.
        weights: The largest relative difference of the weights at the end.
    """

    manual: Result
    autograd: Result
    steps: Array
    loss: float
    weights: float


def pairs(results: Sequence[Result], same: Callable[[Result], Hashable]) -> list[Pair]:
    """Set the trials by hand beside those by autograd.

    Args:
        results: Trials with a label ``backprop``.
        same: What the two trials of a pair have in common.
    """
    by_kind: dict[str, dict[Hashable, Result]] = {"manual": {}, "autograd": {}}
    for result in results:
        by_kind[result.trial.labels["backprop"]][same(result)] = result
    found = []
    for key, manual in by_kind["manual"].items():
        if key in by_kind["autograd"]:
            autograd = by_kind["autograd"][key]
            steps = relative_difference(manual.curves["train/loss"], autograd.curves["train/loss"])
            weights = weights_difference(manual.weights(), autograd.weights())
            found.append(Pair(manual, autograd, steps, float(np.max(steps)), weights))
    return found


def text(difference: float) -> str:
    """A difference in two digits; a plain 0 when every bit is the same."""
    return f"{difference:.1e}" if difference else "0"


def verdict(results: Sequence[Result], matched: Sequence[Pair]) -> tuple[str, bool | None]:
    """One sentence on the agreement and the audit, and whether all is well.

    Returns:
        The sentence; and None when neither could be looked at.
    """
    audited = [r for r in results if r.trial.labels["backprop"] == "manual"]
    failed = [r.trial.name for r in audited if not r.all_by_hand]
    sentences, well = [], True
    if matched:
        loss = max(pair.loss for pair in matched)
        weights = max(pair.weights for pair in matched)
        well = max(loss, weights) <= LIMIT
        sentences.append(
            f"Manual and autograd {'agree' if well else 'PART'}: over {len(matched)} pairs of "
            f"trainings the largest relative difference is {text(loss)} in the loss of any step "
            f"and {text(weights)} in the final weights (limit {LIMIT:.0e})."
        )
    else:
        sentences.append("Only one kind of gradients was run, so there is nothing to compare.")
    if failed:
        sentences.append(f"The audit found autograd nodes in {', '.join(failed)}.")
    elif audited:
        sentences.append(
            f"The audit found every gradient of all {len(audited)} manual trials by hand."
        )
    if not matched and not audited:
        return sentences[0], None
    return " ".join(sentences), well and not failed
