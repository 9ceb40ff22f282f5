"""``run`` and ``report``: from the arguments to the last line on the terminal."""

import argparse
import sys
import time

from rich.console import Console

from experiments import catalog, engine, terminal
from experiments.study import Options


def main(arguments: argparse.Namespace) -> int:
    """Run a study or write its report again.

    Returns:
        The exit status: 1 when manual and autograd part, an audit fails or a trial fails.
    """
    study = catalog.load(arguments.study)
    options = Options(
        seeds=arguments.seeds,
        fast=arguments.fast,
        accelerator=arguments.accelerator,
        backprop=arguments.backprop,
        logs=arguments.logs,
    )
    console = Console()
    place, current = engine.home(study, options), True
    start = time.perf_counter()
    if arguments.command == "report":
        findings, current = engine.replay(study, options)
        ran = 0
    else:
        terminal.tell(console, f"[bold]{study.question}[/]")
        try:
            findings, ran = engine.run(study, options, console)
        except engine.Interrupted as interrupted:
            print(f"experiments: {interrupted}", file=sys.stderr)
            return 130
        except engine.TrialFailed as failed:
            print(f"experiments: {failed}", file=sys.stderr)
            return 1
    seconds = time.perf_counter() - start

    from experiments import report

    page = report.write(study, options, findings, place, current)
    terminal.close(console, study, options, findings, page, ran, seconds)
    return 1 if findings.agrees is False else 0
