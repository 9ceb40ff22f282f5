"""What is wrong with the optimizer's step: too long, too short, or not about the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.reach import shortened
from manual_bp.explain.diagnosis.steps import Step
from manual_bp.explain.diagnosis.summary import number

__all__ = ["DECAY", "GROWTH", "LONG", "SHORT", "SHORT_GAIN", "stepping"]

LONG = 0.5
"""Norm of the step over that of the weight. About 1e-3 is usual (Stanford CS231n, notes on
training); Adam's first step at its default rate reaches 0.05 to 0.1 in wide layers, whose weights
are small. A step of half the weight's own length replaces it; it is told where the loss does not
fall for it. (In a logistic regression that starts near zero such steps do no harm.)"""

SHORT = 1e-6
"""The same ratio at the other end, for the weight that moves most: float32 has 24 bits, 6e-8, so
that the digits that such a step changes are nearly the last."""

SHORT_GAIN = 1e-6
"""What the step takes off the loss, as a share of it, to first order; above it a short step still
does its work."""

GROWTH = 2.0
"""The loss after the step over the loss before, on the same batch. A step against the gradient
lowers it unless it overshoots; noise between batches is not in it."""

DECAY = 10.0
"""What weight decay moves, over what the loss moves. Where both balance, as they do in the end,
it is 1 (Loshchilov & Hutter 2019)."""


def stepping(case: Case) -> Iterator[Finding]:
    """Findings about the step, where an optimizer was given."""
    step = case.step
    if step is None:
        return
    yield from _left_out(case, step)
    ratios = {
        name: move.ratio
        for name, move in step.moves.items()
        if case.parameters[name].ndim >= 2 and move.weight
    }
    too_long = list(_too_long(case, step, ratios))
    yield from too_long
    if not too_long:
        yield from _too_short(step, ratios)
    yield from _decay(case, step)


def _left_out(case: Case, step: Step) -> Iterator[Finding]:
    left = [n for n, p in case.parameters.items() if p.requires_grad and n not in step.held]
    modules: dict[str, list[str]] = {}
    for name in left:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    for module, names in modules.items():
        verb = "is" if len(names) == 1 else "are"
        yield Finding(
            "not in the optimizer",
            module if len(names) > 1 else names[0],
            f"{shortened(names)} {verb} not in {step.optimizer}'s groups: never stepped, "
            "whatever the gradient.",
            numbers={"parameters": names},
            severity="error",
        )


def _too_long(case: Case, step: Step, ratios: dict[str, float]) -> Iterator[Finding]:
    long = {name: ratio for name, ratio in ratios.items() if not ratio <= LONG}
    overshoots = not math.isfinite(step.after) or (
        step.predicted < 0 and step.after > max(GROWTH * step.before, step.before - step.predicted)
    )
    if not overshoots and not (long and step.after > step.before):
        return
    worst = max(ratios, key=lambda n: ratios[n], default="")
    parts = []
    if overshoots:
        parts.append(
            f"One step takes the loss of this very batch from {number(step.before)} to "
            f"{number(step.after)}; the gradient promised {number(step.before + step.predicted)}."
        )
    if long:
        parts.append(
            f"It changes {worst} by {number(ratios[worst])} of its norm"
            + (f", and {len(long) - 1} more by over {LONG:g}" if len(long) > 1 else "")
            + "; about 0.001 is usual."
        )
    yield Finding(
        "step too long",
        worst,
        " ".join(parts),
        operation=step.optimizer,
        numbers={
            "rates": list(step.rates),
            "before": step.before,
            "after": step.after,
            "predicted": step.predicted,
            "ratio": ratios.get(worst),
            "parameters": list(long),
        },
    )


def _too_short(step: Step, ratios: dict[str, float]) -> Iterator[Finding]:
    if not ratios or max(ratios.values()) >= SHORT:
        return
    gain = -step.predicted / abs(step.before) if step.before else math.inf
    if gain >= SHORT_GAIN:
        return
    most = max(ratios, key=lambda n: ratios[n])
    yield Finding(
        "step too short",
        most,
        f"No weight moves by more than {number(ratios[most])} of its norm, and the loss of "
        f"{number(step.before)} can fall by {number(-step.predicted)} in this step: the rate "
        f"({', '.join(sorted({number(rate) for rate in step.rates}))}) is too small, or training "
        "is over.",
        operation=step.optimizer,
        numbers={"rates": list(step.rates), "ratio": ratios[most], "predicted": step.predicted},
    )


def _decay(case: Case, step: Step) -> Iterator[Finding]:
    shares = {
        name: move.decay / move.undecayed if move.undecayed else math.inf
        for name, move in step.moves.items()
        if case.parameters[name].ndim >= 2 and move.decay
    }
    if not shares or median(shares.values()) <= DECAY:
        return
    worst = max(shares, key=lambda n: shares[n])
    move = step.moves[worst]
    yield Finding(
        "weight decay",
        worst,
        f"Weight decay moves {worst} by {number(move.decay)}, the loss by "
        f"{number(move.undecayed)}; over all weights the median is "
        f"{number(median(shares.values()))} to 1: the weights shrink whatever the data say.",
        operation=step.optimizer,
        numbers={"share": shares[worst], "median": median(shares.values())},
    )
