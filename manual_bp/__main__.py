"""``python -m manual_bp``: what is by hand, whether it is right, and what it costs."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import warnings
from collections.abc import Sequence

import torch

from manual_bp import listing
from manual_bp.layers import SPECS
from manual_bp.spec import Spec
from manual_bp.wording import counted

COMMANDS = {
    "list": "the layers and operations whose gradients are written by hand",
    "check": "prove them, or a Function of your own, equal to autograd",
    "audit": "a whole model: its gradients beside autograd's, and the operation that is wrong",
    "explain": "one learning step of a network, operation by operation, number by number",
    "bench": "time and memory of forward and backward, by hand over autograd",
}


class Refused(Exception):
    """Bad input: one sentence, and exit status 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0, 1 where a check fails, 2 for bad input.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if not argv or argv[0] in ("-h", "--help"):
            print(_help())
            return 0
        command, *rest = argv
        if command not in COMMANDS:
            hint = _nearest(command, [*COMMANDS], f"known are {', '.join(COMMANDS)}")
            raise Refused(f"there is no command {command!r}; {hint}")
        if command == "check":
            from manual_bp.conformance.cli import main as check

            return check(rest)
        if command == "audit":
            from manual_bp.model_audit.cli import main as audit

            return audit(rest)
        if command == "explain":
            from manual_bp.explain.cli import main as explain

            return explain(rest)
        return _list(rest) if command == "list" else _bench(rest)
    except Refused as refused:
        print(f"manual_bp: {refused}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m manual_bp COMMAND [--help]", "", *lines, "", "Each command has --help."]
    )


def _nearest(name: str, known: Sequence[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else otherwise


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise Refused(f"{message}; `{self.prog} --help` shows what it takes")


def _parser(command: str) -> _Parser:
    return _Parser(
        prog=f"python -m manual_bp {command}",
        description=COMMANDS[command][0].upper() + COMMANDS[command][1:] + ".",
        allow_abbrev=False,
    )


def _chosen(names: Sequence[str]) -> list[Spec]:
    known = {spec.name: spec for spec in SPECS}
    for name in names:
        if name not in known:
            hint = _nearest(name, [*known], "`python -m manual_bp list` shows all")
            raise Refused(f"no layer or operation is called {name!r}; {hint}")
    return [known[name] for name in names] if names else list(SPECS)


def _list(argv: Sequence[str]) -> int:
    parser = _parser("list")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.add_argument(
        "--errors",
        action="store_true",
        help="measure the error of each gradient too, by hand / by autograd, dtype by dtype",
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="what of PyTorch's own test registries still has a gradient of autograd",
    )
    options = parser.parse_args(argv)
    if options.missing:
        return _list_missing()
    specs = _chosen(options.names)
    measured = {}
    for spec in specs if options.errors else ():
        _watch(spec.name)
        measured[spec.name] = listing.errors(spec)
    _watch("")
    if options.json:
        print(json.dumps([listing.described(s, measured.get(s.name)) for s in specs], indent=2))
        return 0
    rows = [
        (*listing.cells(s), *(listing.shown(measured[s.name]) if measured else ())) for s in specs
    ]
    _table((*listing.HEAD, *(listing.ERRORS if measured else ())), rows)
    modules = sum(len(spec.modules) for spec in specs)
    print(f"{counted(len(specs), 'gradient')} by hand, {counted(modules, 'module')} of torch.nn")
    return 0


def _list_missing() -> int:
    from manual_bp import coverage

    try:
        entries = [*coverage.modules(), *coverage.operations()]
    except ModuleNotFoundError as error:
        raise Refused(
            f"--missing reads PyTorch's test registries, which need the package {error.name}: "
            f"pip install {error.name}"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the registries' samples take deprecated paths on purpose
        left = [(e.kind, e.name, why) for e, why in coverage.missing(iter(entries))]
    on_purpose = [("on purpose", name, why) for name, why in coverage.LEFT_OUT.items()]
    _table(("kind", "name", "left to autograd"), [*left, *on_purpose])
    for kind in ("module", "functional", "operation"):
        total = sum(e.kind == kind for e in entries)
        print(f"{kind}s: {total - sum(k == kind for k, *_ in left)} of {total} by hand")
    return 0


def _watch(name: str) -> None:
    """Show in a terminal what is being measured; nothing clears the line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{name}", end="", file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _bench(argv: Sequence[str]) -> int:
    from manual_bp.bench import time_spec

    parser = _parser("bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--rounds", type=_positive, default=9, help="blocks of each (default 9)")
    parser.add_argument("--dtype", choices=("float32", "float64", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise Refused("--device cuda: torch sees no CUDA device here")
    rows = []
    for spec in _chosen(options.names):
        _watch(spec.name)
        for cost in time_spec(spec, getattr(torch, options.dtype), options.device, options.rounds):
            rows.append(
                (
                    cost.name,
                    f"{cost.manual * 1e3:.3f}",
                    f"{cost.native * 1e3:.3f}",
                    f"{cost.ratio:.2f}",
                    f"{cost.memory_ratio:.2f}",
                )
            )
    _watch("")
    _table(("forward and backward", "by hand ms", "autograd ms", "time", "memory"), rows, right=1)
    print(
        f"time, memory: by hand over autograd; {options.dtype} on {options.device}, "
        f"{counted(torch.get_num_threads(), 'thread')}, medians of "
        f"{counted(options.rounds, 'interleaved block')}"
    )
    return 0


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int | None = None) -> None:
    """Print a table: drawn in a terminal, plain columns in a pipe."""
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for i, name in enumerate(head):
            numeric = right is not None and i >= right
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
