"""``python -m manual_bp check``: prove a Function of one's own, or this library's layers.

What is named here is run: a file, a reference and an input are code like any other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from manual_bp.conformance.check import check
from manual_bp.conformance.probes import PROBES
from manual_bp.conformance.target import Refused, find, inputs, seed

__all__ = ["main"]

_EPILOG = """
examples:
  python -m manual_bp check
  python -m manual_bp check gelu layer_norm
  python -m manual_bp check my_gelu.py:MyGelu --against torch.nn.functional:gelu \\
      --input "randn(4, 8)"
  python -m manual_bp check ops.py:FusedLinear --against torch.nn.functional:linear \\
      --input "randn(4, 8)" --input "randn(3, 8)" --input "randn(3)"

The file, the reference and the inputs are run as Python code: check only what you trust.
Exit status: 0 nothing found, 1 something is wrong, 2 bad input.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse in one sentence."""
        raise Refused(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after ``check``; those of the process by default.

    Returns:
        The exit status: 0 where nothing was found, 1 where something was, 2 for bad input.
    """
    try:
        options = _parser().parse_args(argv)
        if options.list_probes:
            return _list_probes()
        if any(":" in target or target.endswith(".py") for target in options.targets):
            return _check_one(options)
        return _check_library(options)
    except Refused as refused:
        print(f"manual_bp check: {refused}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m manual_bp check",
        description="Compare hand-written gradients with autograd's, from all sides.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="path/to/file.py:Name or package.module:Name; or names of this library's layers, "
        "all of them by default",
    )
    add("--against", metavar="MODULE:NAME", help="what it has to equal; autograd differentiates it")
    add(
        "--input",
        action="append",
        default=[],
        metavar="EXPR",
        help="one positional argument, with torch's functions at hand: 'randn(4, 8)'; repeat it, "
        "or separate several by commas",
    )
    add("--kwarg", action="append", default=[], metavar="NAME=EXPR", help="a keyword argument")
    add("--seed", type=seed, default=0, help="of everything that is drawn (default 0)")
    add("--device", default="cpu", help="where the tensors are: cpu (default) or cuda")
    add("--probe", action="append", metavar="NAME", help="run this probe only; repeatable")
    add("--skip", action="append", default=[], metavar="NAME", help="leave this probe out")
    add("--transforms", action="store_true", help="also func.grad, vmap, jvp, autocast, compile")
    add("--thorough", action="store_true", help="every sample of a layer through every probe")
    add("--keep-going", action="store_true", help="run all probes even if the example is wrong")
    add("--json", action="store_true", help="print the report as JSON")
    add("--jobs", type=int, default=0, metavar="N", help="processes for the library (default: all)")
    add("--list-probes", action="store_true", help="say what each probe finds, and stop")
    return parser


def _list_probes() -> int:
    width = max(len(probe.name) for probe in PROBES)
    for probe in PROBES:
        print(f"{probe.name:<{width}}  {probe.finds}{' (on request)' if probe.optional else ''}")
    return 0


def _check_one(options: argparse.Namespace) -> int:
    if len(options.targets) != 1:
        raise Refused("one path/to/file.py:Name at a time")
    if not options.against:
        raise Refused("--against is missing: what should it equal, as in torch.nn.functional:gelu?")
    if not options.input:
        raise Refused("--input is missing: an example of its arguments, as in 'randn(4, 8)'")
    device = _device(options.device)
    manual = find(options.targets[0])
    reference = find(options.against)
    torch.manual_seed(options.seed)
    args = inputs(options.input, device)
    kwargs = {}
    for text in options.kwarg:
        name, equals, value = text.partition("=")
        if not equals:
            raise Refused(f"--kwarg wants NAME=VALUE, not {text!r}")
        kwargs[name] = inputs([value], device)[0]
    try:
        report = check(
            manual,
            reference,
            *args,
            kwargs=kwargs,
            seed=options.seed,
            probes=options.probe,
            skip=options.skip,
            transforms=options.transforms,
            keep_going=options.keep_going,
        )
    except ValueError as error:
        raise Refused(str(error)) from None
    print(report.to_json() if options.json else report)
    return 0 if report.passed else 1


def _check_library(options: argparse.Namespace) -> int:
    from manual_bp.conformance.library import check_layers, choose

    for option in ("against", "input", "kwarg"):
        if getattr(options, option):
            named = ", ".join(options.targets) or "none"
            raise Refused(
                f"--{option} goes with path/to/file.py:Name or package.module:Name, not with names "
                f"of manual_bp's layers, got {named}"
            )
    if options.jobs < 0:
        raise Refused(f"--jobs is {options.jobs}; expected 1 or more, or 0 for one a processor")
    names = choose(options.targets)
    settings: dict[str, Any] = {
        "seed": options.seed,
        "device": str(_device(options.device)),
        "probes": options.probe,
        "skip": options.skip,
        "transforms": options.transforms,
        "thorough": options.thorough,
    }
    unknown = {*(options.probe or ()), *options.skip} - {probe.name for probe in PROBES}
    if unknown:
        raise Refused(f"there is no probe {unknown.pop()!r}; --list-probes names them all")
    results = check_layers(names, settings, jobs=options.jobs, show=not options.json)
    if options.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))
    return 0 if all(result.passed for result in results) else 1


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).strip().splitlines()[0]
        raise Refused(f"device {name!r} cannot be used: {cause}") from None
    return device
