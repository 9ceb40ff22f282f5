"""What the study ``language_model`` measures, and its tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.measures import by_arm, layers
from experiments.statistics import over, plus_minus
from experiments.study import Table
from experiments.trial import Array, Result

NORMS = ("pre-norm", "post-norm")
DEPTHS = (2, 4, 8, 16)
"""Of the networks that are looked at before their first step."""


def counts(final: Sequence[Result]) -> list[float]:
    """Cross-entropy of the counting models on the test part, by the length of their context."""
    losses: list[float] = final[0].curves["ngrams/loss"].tolist()
    return losses


def lengths(start: Sequence[Result], arm: str, blocks: int) -> Array:
    """The length of the gradient by seed and block, (seeds, blocks)."""
    own = [r for r in by_arm(start, arm) if r.trial.labels["blocks"] == blocks]
    return np.stack([layers(result, "length") for result in own])


def deeper(start: Sequence[Result], arm: str) -> list[float]:
    """The length in the last block of the deepest network over the shallowest's, by seed."""
    deep, shallow = (lengths(start, arm, blocks)[:, -1] for blocks in (DEPTHS[-1], DEPTHS[0]))
    ratios: list[float] = (deep / shallow).tolist()
    return ratios


def near_output(start: Sequence[Result], arm: str) -> list[float]:
    """The length in the last block over that in the first, of the deepest network, by seed."""
    found = lengths(start, arm, DEPTHS[-1])
    ratios: list[float] = (found[:, -1] / found[:, 0]).tolist()
    return ratios


def compared(
    final: Sequence[Result], best: Mapping[str, float], contexts: Mapping[str, int], symbols: int
) -> Table:
    """Networks and counting models on the test part."""
    bit = np.log(2)
    rows = [
        (f"counts, {n}", "-", f"{loss:.3f}", f"{loss / bit:.2f}")
        for n, loss in enumerate(counts(final))
    ]
    for arm, rate in best.items():
        losses = [result.metrics["test/loss"] for result in by_arm(final, arm)]
        rows.append(
            (
                f"GPT, {contexts[arm]}",
                f"{rate:g}",
                plus_minus(losses, ".3f"),
                plus_minus(losses, ".2f", scale=1 / bit),
            )
        )
    return Table(
        "Text not seen before, from so many characters before it",
        ("model, characters", "tuned lr", "nats a character", "bits a character"),
        rows,
        note=f"{over(len(final) // len(best))} ln {symbols} = {np.log(symbols):.3f} nats is "
        "chance. Counts are exact: nothing is trained. A GPT's windows lie end to end, so that it "
        "has half of its characters to go by on average.",
    )


def norms(start: Sequence[Result]) -> Table:
    """The first gradients, by depth."""
    depths = sorted({result.trial.labels["blocks"] for result in start})
    rows = [
        (
            arm,
            *(f"{lengths(start, arm, blocks)[:, -1].mean():.2f}" for blocks in depths),
            plus_minus(deeper(start, arm), ".2f"),
            plus_minus(near_output(start, arm), ".2f"),
        )
        for arm in NORMS
    ]
    return Table(
        "The gradient in the last block before the first step",
        (
            "norms",
            *(f"{blocks} blocks" for blocks in depths),
            "16 over 2",
            "of 16, last over first",
        ),
        rows,
        note="Euclidean length of the gradient of the MLP's second matrix, mean over the seeds.",
    )
