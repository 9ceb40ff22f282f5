"""``run`` and ``report``: from the arguments to the last line on the terminal."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from experiments import catalog, engine, terminal
from experiments.refusal import Refusal
from experiments.study import Ended, Findings, Options, Study


def main(arguments: argparse.Namespace) -> int:
    """Run a study or all of them, or write reports again.

    Returns:
        The exit status: 1 when manual and autograd part, an audit fails or a trial fails.
    """
    options = Options(
        seeds=arguments.seeds,
        fast=arguments.fast,
        accelerator=arguments.accelerator,
        backprop=arguments.backprop,
        logs=arguments.logs,
        executor=arguments.executor,
        jobs=arguments.jobs,
    )
    console = Console()
    try:
        if arguments.study == "all":
            return _all(options, console)
        if not arguments.study:
            ended = [_replayed(name, options) for name in catalog.names()]
            _index(ended, options, console)
            return 1 if any(one.failed or (one.findings and not one.well) for one in ended) else 0
        study = catalog.load(arguments.study)
        if arguments.command == "report":
            findings, current = engine.replay(study, options)
            _close(study, options, findings, current, console, 0, 0.0)
            return 1 if findings.agrees is False else 0
        return 0 if _run(study, options, console).well else 1
    except engine.Interrupted as interrupted:
        print(f"experiments: {interrupted}", file=sys.stderr)
        return 130
    except engine.TrialFailed as failed:
        print(f"experiments: {failed}", file=sys.stderr)
        return 1


def _run(study: Study, options: Options, console: Console) -> Ended:
    start = time.perf_counter()
    terminal.tell(console, f"[bold]{study.question}[/]")
    findings, ran = engine.run(study, options, console)
    seconds = time.perf_counter() - start
    page = _close(study, options, findings, True, console, ran, seconds)
    return Ended(study.name, seconds, findings, page)


def _close(
    study: Study,
    options: Options,
    findings: Findings,
    current: bool,
    console: Console,
    ran: int,
    seconds: float,
) -> Path:
    from experiments import report

    page = report.write(study, options, findings, engine.home(study, options), current)
    terminal.close(console, study, options, findings, page, ran, seconds)
    return page


def _all(options: Options, console: Console) -> int:
    """Run all studies; one that fails does not keep the others from running."""
    ended = []
    for name in catalog.names():
        terminal.tell(console, f"[bold]== {name}[/]")
        start = time.perf_counter()
        try:
            ended.append(_run(catalog.load(name), options, console))
        except (engine.Interrupted, OSError):
            raise  # not the study's: Ctrl-C, or a full disk
        except Exception as error:  # whatever is wrong with one study
            reason = _reason(error)
            print(f"experiments: {name}: {reason}", file=sys.stderr)
            seconds = time.perf_counter() - start
            ended.append(Ended(name, seconds, reason=reason, failed=True))
        terminal.tell(console, "")
    _index(ended, options, console)
    return 0 if all(one.well for one in ended) else 1


def _reason(error: Exception) -> str:
    """Why a study failed, in a line."""
    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    told = isinstance(error, Refusal | engine.TrialFailed)
    return reason if told else f"{type(error).__name__}: {reason}"


def _replayed(name: str, options: Options) -> Ended:
    """A study as its results on disk tell it, with its report written again."""
    study = catalog.load(name)
    try:
        findings, current = engine.replay(study, options)
    except Exception as error:  # mostly that it has not been run
        return Ended(name, reason=_reason(error), failed=not isinstance(error, Refusal))
    from experiments import report

    page = report.write(study, options, findings, engine.home(study, options), current)
    return Ended(name, findings=findings, page=page)


def _index(ended: list[Ended], options: Options, console: Console) -> None:
    """Write the index, and tell how the studies ended."""
    from experiments import index

    terminal.summary(console, ended)
    terminal.tell(console, f"index        {index.write(ended, options)}")
