"""``python -m manual_bp explain``: one learning step of a network, shown.

What is named here is run: a file and its function are code like any other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from manual_bp.conformance.target import Refused, find
from manual_bp.explain.explanation import Explanation
from manual_bp.explain.lesson import Setup
from manual_bp.explain.lessons import LESSONS
from manual_bp.explain.views import VIEWS, render
from manual_bp.explain.views.text import print_to_terminal
from manual_bp.wording import article

__all__ = ["main"]

_EPILOG = """
TARGET is a lesson, or a function without arguments that returns what is to be explained: a
manual_bp.explain.Setup, or (model, inputs, target).

examples:
  python -m manual_bp explain                      the lessons
  python -m manual_bp explain xor
  python -m manual_bp explain xor --out xor.html   a page to step through in a browser
  python -m manual_bp explain nets.py:tiny --only encoder.layer1
  python -m manual_bp explain my_package.nets:tiny --view markdown --precision 3

A module or file that is named is run as Python code: name only what you trust.
Exit status: 0, or 2 for bad input.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse in one sentence."""
        raise Refused(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after ``explain``; those of the process by default.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    try:
        options = _parser().parse_args(argv)
        if options.target is None:
            return _list_lessons()
        view = _view(options)
        explanation = _explained(options.target)
        if options.only is not None:
            explanation = _only(explanation, options.only)
        _show(explanation, view, options)
        return 0
    except Refused as refused:
        print(f"manual_bp explain: {refused}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m manual_bp explain",
        description="One learning step of a network: forward, backward and update, number by "
        "number, checked against autograd.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("target", nargs="?", metavar="TARGET", help="a lesson, or module:function")
    parser.add_argument(
        "--view",
        choices=("terminal", *VIEWS),
        metavar="VIEW",
        help="terminal (default), text, markdown, json or html",
    )
    parser.add_argument("--out", metavar="FILE", help="write to it; its ending tells the view")
    parser.add_argument(
        "--precision", type=_digits, default=4, metavar="N", help="significant digits (default 4)"
    )
    parser.add_argument("--only", metavar="LAYER", help="the operations of one module")
    return parser


def _digits(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 17:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of digits from 1 to 17")
    return int(text)


def _view(options: argparse.Namespace) -> str:
    """The view that is asked for, before anything is computed."""
    ending = Path(options.out or "").suffix.removeprefix(".")
    if options.out and options.view is None and ending not in VIEWS:
        raise Refused(
            f"the ending of {options.out!r} tells no view; use .html, .md, .json or .txt, or --view"
        )
    view: str = options.view or (ending if options.out else "terminal")
    if options.out and view == "terminal":
        view = "text"
    if view == "html" and not options.out and sys.stdout.isatty():
        raise Refused("a page is for a browser, not for a terminal: add --out page.html")
    return view


def _explained(target: str) -> Explanation:
    if ":" not in target and not target.endswith(".py"):
        if target not in LESSONS:
            near = get_close_matches(target, LESSONS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(LESSONS)}"
            raise Refused(f"there is no lesson {target!r} (a function is module:function); {hint}")
        return LESSONS[target].explain()
    found: Any = find(target)
    if not isinstance(found, nn.Module):
        try:
            found = found()
        except Exception as error:
            raise Refused(f"{target} cannot be run: {type(error).__name__}: {error}") from None
    try:
        return found if isinstance(found, Explanation) else _setup(found, target).explain()
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from None


def _setup(found: Any, target: str) -> Setup:
    if isinstance(found, Setup):
        return found
    if isinstance(found, tuple) and found and isinstance(found[0], nn.Module) and len(found) <= 3:
        model, inputs, goal = [*found, (), None][:3] if len(found) != 2 else [*found, None]
        return Setup(model, inputs if isinstance(inputs, tuple) else (inputs,), goal)
    if isinstance(found, nn.Module):
        return Setup(found)
    raise Refused(
        f"{target} returned {article(type(found).__name__)}; what can be explained is a "
        "manual_bp.explain.Setup or (model, inputs, target)"
    )


def _only(explanation: Explanation, layer: str) -> Explanation:
    try:
        return explanation.only(layer)
    except KeyError:
        known = list(dict.fromkeys(o.module for o in explanation.operations if o.module))
        near = get_close_matches(layer, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known[:20])}"
        raise Refused(f"no operation stands in a layer {layer!r}; {hint}") from None


def _show(explanation: Explanation, view: str, options: argparse.Namespace) -> None:
    if view == "terminal" and sys.stdout.isatty():
        print_to_terminal(explanation, options.precision)
        return
    written = render(explanation, "text" if view == "terminal" else view, options.precision)
    if options.out is None:
        print(written, end="")
        return
    try:
        Path(options.out).write_text(written, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refused(f"{options.out} cannot be written: {reason}") from None
    print(options.out)


def _list_lessons() -> int:
    width = max(map(len, LESSONS), default=0)
    for lesson in LESSONS.values():
        print(f"{lesson.name:<{width}}  {lesson.title}")
    print("python -m manual_bp explain LESSON, or module:function; --help shows more")
    return 0
