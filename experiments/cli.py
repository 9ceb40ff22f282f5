"""The command line: ``list``, ``run``, ``report`` and ``fit``.

Importing Lightning takes five seconds, so a command is understood, and refused if it must be,
before anything heavy is imported. Each refusal is one sentence and ends with exit status 2.
"""

import argparse
import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from experiments import catalog
from experiments.refusal import Refusal

COMMANDS = {
    "list": "the studies and their questions",
    "run": "run a study, or all of them: only the trials that have not finished yet",
    "report": "write a study's report again from the finished trials; without a study, the index",
    "fit": "one training, as LightningCLI understands it",
}

CHOICES = {
    "--accelerator": ("cpu", "cuda"),
    "--backprop": ("both", "manual", "autograd"),
    "--executor": ("joblib", "ray"),
}
"""Options that are one of several words; the first is the default."""

OPTIONS = ["--seeds", "--fast", *CHOICES, "--jobs", "--logs", "--help"]

FULL = {errno.ENOSPC, errno.EDQUOT}
DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}

COMPLETION = """completion of commands, studies and options with the TAB key (bash, zsh):
  python -m pip install argcomplete
  eval "$(activate-global-python-argcomplete --dest=-)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``python -m experiments``; None takes those of the process.

    Returns:
        The exit status: 0, 1 for a study whose trajectories part or whose trials fail, 2 for a
        refusal (also by the disk), 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except Refusal as refusal:
        return _say(str(refusal))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("experiments", "manual_bp"):
            raise
        return _say(
            f"{error.name} is not installed; python -m pip install 'manual-bp[experiments]'"
        )
    except KeyboardInterrupt:
        _say("Stopped; finished trials are kept.")
        return 130
    except BrokenPipeError:  # `... | head` has read enough
        sys.stderr.close()
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        if error.errno in FULL:
            return _say(
                f"the disk is full{where}; finished trials are kept, and the same command goes on "
                "when there is room."
            )
        if error.errno in DENIED:
            return _say(
                f"writing is not allowed{where}; finished trials are kept, --logs names another "
                "folder."
            )
        raise


def _say(sentence: str) -> int:
    print(f"experiments: {sentence}", file=sys.stderr)
    return 2


def _dispatch(words: list[str]) -> int:
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        import argcomplete

        argcomplete.autocomplete(_parser())
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
        print("\n".join(_studies()))
        return 0
    if arguments.study not in _known(arguments.command):
        hint = catalog.suggestion(arguments.study, [n for n in _known(arguments.command) if n])
        raise Refusal(f"there is no study {arguments.study!r}; {hint}")
    _check(arguments)

    from experiments import commands  # imports rich and NumPy, and joblib when trials are missing

    return commands.main(arguments)


def _known(command: str) -> list[str]:
    """What may stand for a study: ``run`` takes all of them, ``report`` none, for the index."""
    return [*catalog.names(), "all" if command == "run" else ""]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(catalog.unknown_option(message, OPTIONS))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m experiments",
        description="Studies of backprop: by hand and by autograd, from one command.",
        epilog="\n".join(["studies:", *_studies("  "), "", COMPLETION]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="\n".join(["studies:", *_studies("  ")]) if name in ("run", "report") else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in ("run", "report"):
            _options(command, name)
    return parser


def _options(command: argparse.ArgumentParser, name: str) -> None:
    study: Any
    if name == "run":
        study = command.add_argument(
            "study", metavar="STUDY", help="one of the studies below, or all"
        )
    else:
        study = command.add_argument(
            "study", metavar="STUDY", nargs="?", default="", help="one of the studies below"
        )
    study.completer = lambda **_: _known(name)
    command.add_argument(
        "--seeds", metavar="N", help="how many seeds each arm gets (default: the study's own)"
    )
    command.add_argument(
        "--fast", action="store_true", help="a short form: seconds, to see that all works"
    )
    told = {
        "--accelerator": "where trials run",
        "--backprop": "gradients: by hand, by autograd, or both in step",
        "--executor": "what runs trials side by side; ray: the cluster of RAY_ADDRESS, or one here",
    }
    for option, choices in CHOICES.items():
        choice: Any = command.add_argument(
            option,
            default=choices[0],
            metavar="|".join(choices),
            help=f"{told[option]} (default: {choices[0]})",
        )
        choice.completer = lambda choices=choices, **_: choices
    command.add_argument("--jobs", metavar="N", help="trials at once (default: one a core)")
    command.add_argument(
        "--logs", default="logs", metavar="DIR", help="where results are kept (default: logs)"
    )


def _studies(indent: str = "") -> list[str]:
    width = max(map(len, catalog.names()))
    return [f"{indent}{name:<{width}}  {catalog.question(name)}" for name in catalog.names()]


def _check(arguments: argparse.Namespace) -> None:
    """Refuse values that cannot work, and turn the others into what they mean."""
    for option in ("seeds", "jobs"):
        if (text := getattr(arguments, option)) is not None:
            setattr(arguments, option, _positive(f"--{option}", text))
    for option, choices in CHOICES.items():
        value = getattr(arguments, option[2:])
        if value not in choices:
            known = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise Refusal(f"{option} is {value!r}; expected {known}")
    if arguments.executor == "ray" and find_spec("ray") is None:
        raise Refusal(
            "--executor is 'ray', which is not installed; "
            "python -m pip install 'manual-bp[sweep]', or leave the option out"
        )
    arguments.logs = Path(arguments.logs)
    if arguments.command == "report" and not arguments.logs.exists():
        raise Refusal(
            f"--logs is {str(arguments.logs)!r}; expected the folder of a run, and nothing has "
            f"been run there: python -m experiments run {arguments.study or 'all'} "
            f"--logs {arguments.logs}"
        )
    try:
        arguments.logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.logs):
            pass
    except OSError as error:
        if error.errno in FULL:
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
