"""One batch in parts, whose gradients are accumulated before a step."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments import agreement
from experiments.measures import by_arm
from experiments.parts.batch_size import configuration
from experiments.study import Options, Prediction, Table, Verdict, judge
from experiments.trial import Array, Result, Trial

PREDICTION = Prediction(
    claim="Gradients accumulated over k micro-batches are those of the large batch, to rounding; "
    "unless a layer looks across the batch, as BatchNorm does.",
    source="Goyal et al. 2017, section 3 (arXiv:1706.02677)",
    refuted_if="the weights after 10 epochs with 8 micro-batches of 30 differ from those with "
    "batches of 240 by more than 1e-12, relative, in a layer; or, with BatchNorm, by less than "
    "1e-3, under any seed",
)


def trial(size: int, parts: int, norm: str | None, seed: int, options: Options) -> Trial:
    """One training with batches of ``size * parts``, each in so many parts."""
    arm = f"{parts} x {size}" if parts > 1 else f"{size}"
    config = configuration(
        size,
        0.3,
        seed,
        options.backprop,
        options,
        epochs=1 if options.fast else 10,
        trainer={"accumulate_grad_batches": parts},
        normalization=norm,
    )
    labels = {"phase": "accumulation", "arm": arm, "norm": norm or "", "rate": 0.3, "seed": seed}
    title = f"accumulation-{arm.replace(' ', '')}-{norm or 'plain'}-seed{seed}-{options.backprop}"
    return Trial(title, labels, config)


def trials(options: Options) -> list[Trial]:
    """Whole and in parts, without normalization and with BatchNorm."""
    return [
        trial(size, parts, norm, seed, options)
        for size, parts in ((240, 1), (30, 8))
        for norm in (None, "BatchNorm1d")
        for seed in options.range(3)
    ]


def apart(results: Sequence[Result], norm: str) -> list[float]:
    """The largest relative difference of a parameter between a batch and its parts, by seed."""
    found = [r for r in results if r.trial.labels["norm"] == norm]
    pairs = zip(by_arm(found, "240"), by_arm(found, "8 x 30"), strict=True)
    return [max(_differences(one.weights(), other.weights())) for one, other in pairs]


def _differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> list[float]:
    return [
        float(np.linalg.norm(one[name] - other[name]) / np.linalg.norm(one[name])) for name in one
    ]


def verdict(results: Sequence[Result], options: Options) -> Verdict:
    """Whether both end at the same weights."""
    plain, normed = (apart(results, norm) for norm in ("", "BatchNorm1d"))
    return judge(
        PREDICTION,
        max(plain) <= 1e-12 and min(normed) >= 1e-3,
        f"relative difference of the weights {max(plain):.1e}, with BatchNorm {min(normed):.2g}",
        options,
        short=True,
    )


def table(results: Sequence[Result]) -> Table:
    """How far apart they end."""
    return Table(
        "One batch in parts",
        ("network", "largest relative difference of a weight tensor"),
        [
            (name, ", ".join(agreement.text(x) for x in apart(results, norm)))
            for name, norm in (("without normalization", ""), ("BatchNorm", "BatchNorm1d"))
        ],
        note="Batches of 240 against 8 micro-batches of 30, at the end; one number a seed.",
    )
