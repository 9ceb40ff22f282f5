"""The command line: ``list``, ``run``, ``report`` and ``fit``.

Importing Lightning takes five seconds, so a command is understood, and refused if it must be,
before anything heavy is imported. Each refusal is one sentence and ends with exit status 2.
"""

import argparse
import errno
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments import catalog
from experiments.refusal import Refusal

COMMANDS = {
    "list": "the studies and their questions",
    "run": "run a study: only the trials that have not finished yet",
    "report": "write a study's report again from the finished trials",
    "fit": "one training, as LightningCLI understands it",
}


OPTIONS = ["--seeds", "--fast", "--accelerator", "--backprop", "--logs", "--help"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``python -m experiments``; None takes those of the process.

    Returns:
        The exit status: 0, 1 for a study whose trajectories part or whose trials fail, 2 for a
        refusal, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except Refusal as refusal:
        print(f"experiments: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("experiments: Stopped; finished trials are kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` has read enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"experiments: the disk is full{where}; finished trials are kept, and the same "
            "command goes on when there is room.",
            file=sys.stderr,
        )
        return 1


def _dispatch(words: list[str]) -> int:
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        hint = catalog.suggestion(words[0], list(COMMANDS))
        raise Refusal(f"there is no command {words[0]!r}; {hint}")
    if words[:1] == ["fit"]:
        from experiments.training.fit import main as fit

        return fit(words)
    arguments = _parser().parse_args(words)
    if arguments.command is None:
        _parser().print_help()
        return 0
    if arguments.command == "list":
        width = max(map(len, catalog.names()))
        for name in catalog.names():
            print(f"{name:<{width}}  {catalog.question(name)}")
        return 0
    if arguments.study not in catalog.names():
        hint = catalog.suggestion(arguments.study, catalog.names())
        raise Refusal(f"there is no study {arguments.study!r}; {hint}")
    _check(arguments)

    from experiments import commands  # imports rich and NumPy, and joblib when trials are missing

    return commands.main(arguments)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(catalog.unknown_option(message, OPTIONS))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m experiments",
        description="Studies of backprop: by hand and by autograd, from one command.",
        epilog=_studies(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_studies() if name in ("run", "report") else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name not in ("run", "report"):
            continue
        command.add_argument("study", metavar="STUDY", help="one of the studies below")
        command.add_argument(
            "--seeds", metavar="N", help="how many seeds each arm gets (default: the study's own)"
        )
        command.add_argument(
            "--fast", action="store_true", help="a short form: seconds, to see that all works"
        )
        command.add_argument("--accelerator", default="cpu", metavar="cpu|cuda")
        command.add_argument("--backprop", default="both", metavar="manual|autograd|both")
        command.add_argument(
            "--logs", default="logs", metavar="DIR", help="where results are kept (default: logs)"
        )
    return parser


def _studies() -> str:
    lines = [f"  {name:<12}{catalog.question(name)}" for name in catalog.names()]
    return "\n".join(["studies:", *lines])


def _check(arguments: argparse.Namespace) -> None:
    """Refuse values that cannot work, and turn the others into what they mean."""
    if arguments.seeds is not None:
        arguments.seeds = _positive("--seeds", arguments.seeds)
    for name, known in (
        ("accelerator", ["cpu", "cuda"]),
        ("backprop", ["manual", "autograd", "both"]),
    ):
        value = getattr(arguments, name)
        if value not in known:
            raise Refusal(f"--{name} is {value!r}; expected {', '.join(known[:-1])} or {known[-1]}")
    arguments.logs = Path(arguments.logs)
    try:
        arguments.logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.logs):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise Refusal(
            f"--logs is {str(arguments.logs)!r}; expected a folder that can be written to "
            f"({error.strerror.lower() if error.strerror else error})"
        ) from None
    if arguments.accelerator == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise Refusal(
                "--accelerator is 'cuda'; expected 'cpu', because torch sees no CUDA device here"
            )


def _positive(option: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise Refusal(f"{option} is {text!r}; expected a whole number of 1 or more")
    return value
