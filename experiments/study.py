"""What a study is, what it may be asked, and what it finds.

A study is a plan: a generator that yields batches of trials and is sent their results, so that a
later batch may depend on an earlier one (learning rates are tuned before they are compared). It
returns its findings. The engine runs the trials that are missing; the report replays the same plan
over the results on disk.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from experiments.trial import Result, Trial

Backprop = Literal["manual", "autograd"]


@dataclass(frozen=True)
class Options:
    """How a study is run.

    Args:
        seeds: How many seeds each arm gets; None is the study's own number.
        fast: The shortened form, which shows that everything works rather than answers.
        accelerator: Where the trials run.
        backprop: Which gradients: by hand, by autograd, or both beside each other.
        logs: The folder under which results, TensorBoard logs and reports are kept.
    """

    seeds: int | None = None
    fast: bool = False
    accelerator: Literal["cpu", "cuda"] = "cpu"
    backprop: Literal["manual", "autograd", "both"] = "both"
    logs: Path = Path("logs")

    @property
    def arms(self) -> tuple[Backprop, ...]:
        """The kinds of gradients to train with."""
        return ("manual", "autograd") if self.backprop == "both" else (self.backprop,)

    def command(self, verb: str, study: str) -> str:
        """The command line that asks for exactly this."""
        words = ["python -m experiments", verb, study]
        words += [f"--seeds {self.seeds}"] * (self.seeds is not None)
        words += ["--fast"] * self.fast
        words += [f"--accelerator {self.accelerator}"] * (self.accelerator != "cpu")
        words += [f"--backprop {self.backprop}"] * (self.backprop != "both")
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
        agreement: One sentence on manual against autograd and on the audit.
        agrees: False when manual and autograd part beyond rounding or an audit failed; None when
            only one of the two was run.
        warnings: What a reader must know before trusting the numbers.
        explanation: Paragraphs on why it came out so.
    """

    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    agreement: str
    agrees: bool | None
    warnings: Sequence[str] = ()
    explanation: Sequence[str] = ()


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
        watched: Whether trials leave TensorBoard logs.
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
    watched: bool = True
