"""Does the tutorial's XOR network learn XOR? What it prints, what it does, and why it gets stuck.

A widely read tutorial builds a network 2-4-1 in NumPy, trains it by hand-written backprop and
prints the right answers, [0 1 1 0], under ``np.random.seed(42)``. Its own code, run as it stands,
ends elsewhere. Here it runs three ways from the same draws: in NumPy as published, on the layers
of manual_bp, and on autograd.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments import agreement, configs, published
from experiments.endings import PLATEAUS, Ending, ending, forward
from experiments.figures import xor as figures
from experiments.statistics import relative_difference
from experiments.study import Backprop, Findings, Options, Plan, Prediction, Study, Table, Verdict
from experiments.trial import LIGHTNING, Array, Result, Trial

SHOWN, CONTRAST = 42, 0
"""The tutorial's seed, and one that solves XOR; both are also trained by Lightning, and logged."""

LOOP = "experiments.training.tutorial:train"

NEAR = 0.002

CURVES: dict[Backprop, dict[str, str]] = {
    "manual": {"manual": "train/loss"},
    "autograd": {"autograd": "train/loss"},
    "both": {"manual": "train/loss", "autograd": "autograd/loss"},
}
"""The trainings of a trial: which curve has the losses of which kind."""

PRINTED = Prediction(
    claim="Seed 42 ends at [1 1 1 0] with loss 0.478, not at the [0 1 1 0] that is printed.",
    source="the tutorial's code, run as published",
    refuted_if="the answers differ, or the loss to three decimals, in any of the three ways",
)
COUNT = Prediction(
    claim="29 of the seeds 0 to 49 solve XOR.",
    source="the tutorial's code, run as published",
    refuted_if="any of the three ways counts another number",
)
STUCK = Prediction(
    claim="The others are stuck for good: inputs that turn no hidden unit on share one output.",
    source="dying units and local minima: Lu et al. 2019 (arXiv:1903.06733); Goodfellow et al. "
    "2016, Deep Learning, section 6.3.1",
    refuted_if=f"an unsolved seed ends farther than {NEAR} from the plateaus 0.347, 0.477 and "
    "0.693 that two, three or four shared outputs allow, or ten times the steps solve one more",
)


def trial(seed: int, backprop: Backprop, options: Options, *, watched: bool) -> Trial:
    """One training of the tutorial's network."""
    config = configs.fit(
        network=configs.item("experiments.training.tutorial.Tutorial", seed=seed),
        optimizer=configs.optimizer("SGD", backprop, lr=published.RATE),
        data=configs.item("lightning_modules.data.XOR", steps_per_epoch=published.STEPS),
        backprop=backprop,
        seed=seed,
        epochs=1,
        evaluate_every=100,
        accelerator=options.accelerator if watched else "cpu",
        histograms_every=20 if watched else 0,
        loss="BCEWithLogitsLoss",
    )
    phase = "Lightning" if watched else "loop"
    labels = {"phase": phase, "seed": seed}
    watch = f"seed{seed}-{backprop}" if watched else ""
    name = f"{phase}-seed{seed}-{backprop}"
    return Trial(name, labels, config, watch, LIGHTNING if watched else LOOP)


def plan(options: Options) -> Plan:
    """All seeds in a plain loop, then the two that are shown by Lightning."""
    seeds = sorted({*range(options.seeds or (3 if options.fast else 50)), CONTRAST, SHOWN})
    loops: list[Result] = yield [
        trial(seed, options.backprop, options, watched=False) for seed in seeds
    ]
    logged: list[Result] = yield [
        trial(seed, options.backprop, options, watched=True)
        for seed in ((SHOWN,) if options.fast else (SHOWN, CONTRAST))
    ]
    return _findings(seeds, loops, logged, options)


def _findings(
    seeds: Sequence[int], loops: Sequence[Result], logged: Sequence[Result], options: Options
) -> Findings:
    curves = CURVES[options.backprop]
    endings = {kind: [ending(result, kind) for result in loops] for kind in curves}
    kind = next(iter(curves))
    paper = published.train(seeds)
    apart = max(
        float(relative_difference(result.curves[curve], losses).max())
        for curve in curves.values()
        for result, losses in zip(loops, paper.losses, strict=True)
    )
    matched = agreement.pairs([*loops, *logged])
    said = (
        f"Both follow the published NumPy to {agreement.text(apart)}, and Lightning "
        f"follows the loop to {agreement.text(_lightning(loops, logged, curves.values()))}."
    )
    at = list(seeds).index(SHOWN)
    weights = next(r for r in loops if _seed(r) == SHOWN).weights()
    drawn = {SHOWN: weights, CONTRAST: next(r for r in loops if _seed(r) == CONTRAST).weights()}
    return Findings(
        verdicts=_verdicts(seeds, endings, paper, options),
        tables=[
            _ways(seeds, endings, paper),
            _groups(endings[kind]),
            _units(weights),
        ],
        figures=figures.figures(loops, endings[kind], drawn, matched),
        agreement=said,
        agrees=apart <= agreement.LIMIT,
        warnings=["Too few seeds to count 29 of 50."] if list(seeds) != list(range(50)) else [],
        explanation=_explanation(loops, at, weights, paper),
    )


def _seed(result: Result) -> int:
    seed: int = result.trial.labels["seed"]
    return seed


def _lightning(loops: Sequence[Result], logged: Sequence[Result], curves: Iterable[str]) -> float:
    """How far the losses of Lightning's trainings are from those of the loop."""
    plain = {_seed(result): result for result in loops}
    return max(
        float(relative_difference(result.curves[name], plain[_seed(result)].curves[name]).max())
        for name in curves
        for result in logged
    )


def _solved(paper: published.Published) -> Array:
    solved: Array = ((paper.outputs > 0.5) == (published.Y[:, 0] > 0)).all(axis=1)
    return solved


def _ways(
    seeds: Sequence[int], endings: Mapping[str, list[Ending]], paper: published.Published
) -> Table:
    at = list(seeds).index(SHOWN)
    answers = (paper.outputs[at] > 0.5).astype(int)
    rows = [
        ("printed in the tutorial", "[0 1 1 0]", "", ""),
        ("NumPy, as published", str(answers), f"{paper.final[at]:.3f}", f"{_solved(paper).sum()}"),
    ]
    for backprop, ends in endings.items():
        end = next(end for end in ends if end.seed == SHOWN)
        name = "by hand (manual_bp)" if backprop == "manual" else "autograd"
        answered = f"[{' '.join(map(str, end.answers))}]"
        rows.append((name, answered, f"{end.loss:.3f}", f"{sum(e.solved for e in ends)}"))
    return Table(
        "The same network three ways",
        ("way", f"answers, seed {SHOWN}", f"loss, seed {SHOWN}", f"solved of {len(seeds)} seeds"),
        rows,
        note="Answers to (0,0), (0,1), (1,0), (1,1) after 1000 steps.",
    )


def _groups(endings: Sequence[Ending]) -> Table:
    rows = []
    for shared in (0, *PLATEAUS):
        group = [end for end in endings if end.shared == shared]
        if not group:
            continue
        losses = [end.loss for end in group]
        live = sorted(end.live for end in group)
        rows.append(
            (
                f"{shared} inputs share an output" if shared else "solved",
                str(len(group)),
                f"{PLATEAUS[shared]:.4f}" if shared else "0",
                f"{min(losses):.4f} to {max(losses):.4f}",
                f"{live[0]} to {live[-1]}",
                ", ".join(str(end.seed) for end in group) if shared else "",
            )
        )
    return Table(
        "Where the seeds end",
        ("ending", "seeds", "least possible loss", "loss", "live units", "which"),
        rows,
        note="A unit is live when at least one input turns it on; there are four.",
    )


def _units(weights: dict[str, Array]) -> Table:
    first, second = published.draws(SHOWN)
    before = published.X @ first > 0
    after = forward(weights, published.X)[0] > 0
    outgoing = weights["network.output.weight"][0]
    rows = [
        (
            f"unit {i + 1}",
            f"{second[i, 0]:+.3f}",
            _on(before[:, i]),
            f"{outgoing[i]:+.3f}",
            _on(after[:, i]),
        )
        for i in range(published.HIDDEN)
    ]
    return Table(
        f"The hidden units of seed {SHOWN}",
        ("", "output weight, start", "on for, start", "output weight, end", "on for, end"),
        rows,
        note="A unit that is off for an input passes none of its gradient; one that is off for all "
        "four is dead.",
    )


def _on(inputs: Array) -> str:
    names = [f"({x:.0f},{y:.0f})" for (x, y), on in zip(published.X, inputs, strict=True) if on]
    return " ".join(names) if names else "nothing"


def _verdicts(
    seeds: Sequence[int],
    endings: Mapping[str, list[Ending]],
    paper: published.Published,
    options: Options,
) -> list[Verdict]:
    at = list(seeds).index(SHOWN)
    shown = [next(end for end in ends if end.seed == SHOWN) for ends in endings.values()]
    answers = {tuple((paper.outputs[at] > 0.5).astype(int).tolist()), *(e.answers for e in shown)}
    losses = {f"{loss:.3f}" for loss in (float(paper.final[at]), *(end.loss for end in shown))}
    solved = {int(_solved(paper).sum())} | {
        sum(end.solved for end in ends) for ends in endings.values()
    }
    stuck = [end for ends in endings.values() for end in ends if not end.solved]
    farthest = max(end.distance for end in stuck)
    later = int(_solved(published.train(seeds, 10 * published.STEPS)).sum())
    counted = "/".join(map(str, sorted(solved)))
    return [
        Verdict(
            PRINTED,
            answers == {(1, 1, 1, 0)} and losses == {"0.478"},
            f"answers {' and '.join('[' + ' '.join(map(str, a)) + ']' for a in sorted(answers))}, "
            f"loss {' and '.join(sorted(losses))}",
        ),
        Verdict(
            COUNT,
            solved == {29} if list(seeds) == list(range(50)) else None,
            f"{counted} of {len(seeds)} seeds solved",
        ),
        Verdict(
            STUCK,
            farthest <= NEAR and later == max(solved),
            f"the unsolved seeds end within {farthest:.4f} of a plateau; after "
            f"{10 * published.STEPS} steps {later} of {len(seeds)} are solved, after "
            f"{published.STEPS} {counted}",
        ),
    ]


def _explanation(
    shown: Sequence[Result], at: int, weights: dict[str, Array], paper: published.Published
) -> list[str]:
    hidden, outputs = forward(weights, published.X)
    dark = [_on(row) for row in np.eye(4, dtype=bool)[~(hidden > 0).any(axis=1)]]
    dead = [f"unit {i + 1}" for i in np.flatnonzero(~(hidden > 0).any(axis=0))]
    last = next(result for result in shown if _seed(result) == SHOWN).curves["gradient"][-1]
    return [
        f"Why seed {SHOWN} is stuck: {' and '.join(dead) or 'no unit'} is dead, on for no input, "
        "so its weights never move again. The live units are on for (1,1) alone, and all of them "
        f"push the output down there. {', '.join(dark)} turn no unit on: for the network they are "
        "one and the same point, and the output bias alone answers for all of them. Their labels "
        f"are 0, 1, 1; the one answer that costs least is 2/3 (the network says {outputs[0]:.4f}), "
        "which rounds to 1, 1, 1.",
        f"The loss of that answer is (2 ln 3/2 + ln 3) / 4 = {PLATEAUS[3]:.4f}, and the network is "
        f"at {paper.final[at]:.4f}. What is left of the gradient, of length {last:.1e}, pushes "
        "(1,1) further down. A ReLU that is off passes no gradient, so nothing turns a unit on for "
        "the other three; and when a step for (1,1) lifts one above zero at (0,1) or (1,0), that "
        "input's label pushes it off again. It is a local minimum made of units that are off: more "
        "steps do not help, another draw does.",
    ]


STUDY = Study(
    name="xor",
    question=(__doc__ or "").partition("\n")[0],
    predictions=(PRINTED, COUNT, STUCK),
    scientific={
        "initial weights": "NumPy's seeds 0 to 49",
        "gradients": "NumPy as published, manual_bp, autograd",
    },
    nuisance={},
    fixed={
        "network": "2-4-1, ReLU and sigmoid; weights N(0, 1) * 0.1, biases 0",
        "loss": "binary cross-entropy, mean over the four inputs",
        "training": "gradient descent on all four inputs, rate 0.5, 1000 steps",
        "precision": "float64, on the CPU",
    },
    metric="the four answers and the loss after the last step",
    seeds="0 to 49; 42 is the tutorial's own",
    plan=plan,
)
