"""``python -m manual_bp audit``: any model, its gradients by hand beside autograd's.

What is named here is run: a file, its factory and an input are code like any other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from manual_bp.conformance.target import Refused, find, inputs, seed
from manual_bp.model_audit.compare import ModelAudit, audit_model
from manual_bp.model_audit.render import drawn, plain, to_dict
from manual_bp.wording import article

__all__ = ["main"]

_EPILOG = """
examples:
  python -m manual_bp audit my_models.py:make_net --input "randn(4, 8)"
  python -m manual_bp audit my_models.py:make_net --only gelu --only linear
  python -m manual_bp audit package.models:Net --input "randint(9, (2, 5))" --kwarg "causal=True"

MODEL names a module, its class, or a function without arguments that returns the model or
(model, inputs), inputs being a tensor, a tuple, or a dict of keyword arguments. If the output has
a `loss`, that is differentiated; else every output, along a random direction. All is in float64.
The file and the inputs are run as Python code: audit only what you trust.
Exit status: 0 the gradients are autograd's, 1 one is not, 2 bad input.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse in one sentence."""
        raise Refused(f"{message}; `{self.prog} --help` shows what it takes")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after ``audit``; those of the process by default.

    Returns:
        The exit status: 0 where every gradient is autograd's, 1 where one is not or, with
        ``--strict``, something is left to autograd, 2 for bad input.
    """
    try:
        options = _parser().parse_args(argv)
        result = _audited(options)
    except Refused as refused:
        print(f"manual_bp audit: {refused}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    if options.json:
        print(json.dumps(to_dict(result), indent=2))
    elif sys.stdout.isatty():
        drawn(result, options.all)
    else:
        print(plain(result, options.all))
    left = options.strict and not result.report.all_by_hand
    return 1 if left or not result.agrees else 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m manual_bp audit",
        description="One step of a model by hand and by autograd: which operations are by hand, "
        "how far each parameter's gradient is from autograd's, and which operation is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="path/to/file.py:factory or package.module:factory")
    add(
        "--input",
        action="append",
        default=[],
        metavar="EXPR",
        help="one positional argument, with torch's functions at hand: 'randn(4, 8)'; repeat it, "
        "or separate several by commas",
    )
    add("--kwarg", action="append", default=[], metavar="NAME=EXPR", help="a keyword argument")
    add(
        "--only",
        action="append",
        metavar="NAME",
        help="take only this layer's gradient by hand; repeatable",
    )
    add("--eval", action="store_true", help="in evaluation; else in the mode that the model has")
    add("--seed", type=seed, default=0, help="of everything that is drawn (default 0)")
    add("--all", action="store_true", help="show every parameter, not the worst ones")
    add("--strict", action="store_true", help="exit 1 where something is left to autograd, too")
    add("--json", action="store_true", help="print the comparison as JSON")
    return parser


def _audited(options: argparse.Namespace) -> ModelAudit:
    torch.manual_seed(options.seed)
    model, args, kwargs = _made(options.model)
    if options.input or options.kwarg:
        args, kwargs = _given(options)
    elif not args and not kwargs:
        raise Refused(
            "--input is missing: what is the model called with, as in 'randn(4, 8)'? Or let the "
            "factory return (model, inputs)"
        )
    if options.eval:
        model.eval()
    try:
        return audit_model(model, args, kwargs, only=options.only, seed=options.seed)
    except Exception as error:  # of the model as autograd runs it, on an example that is at fault
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        cause = str(error).strip().splitlines() or [""]
        raise Refused(
            f"{options.model} cannot be audited with {_shown(args, kwargs)}: {kind}{cause[0]}"
        ) from None


def _made(target: str) -> tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The model, and the inputs that come with it."""
    found: Any = find(target)
    if not isinstance(found, torch.nn.Module):
        try:
            found = found()
        except Exception as error:
            raise Refused(
                f"{target} cannot be called without arguments ({type(error).__name__}: {error}); "
                "name a function that returns the model"
            ) from None
    model, given = found if isinstance(found, tuple) and len(found) == 2 else (found, ())
    if not isinstance(model, torch.nn.Module):
        raise Refused(
            f"{target} returns {article(type(model).__name__)}, not a model (torch.nn.Module) or "
            "(model, inputs)"
        )
    if isinstance(given, dict):
        return model, (), given
    return model, tuple(given) if isinstance(given, (tuple, list)) else (given,), {}


def _given(options: argparse.Namespace) -> tuple[tuple[Any, ...], dict[str, Any]]:
    device = torch.device("cpu")
    kwargs = {}
    for text in options.kwarg:
        name, equals, value = text.partition("=")
        if not equals:
            raise Refused(f"--kwarg wants NAME=VALUE, not {text!r}")
        kwargs[name] = inputs([value], device)[0]
    return tuple(inputs(options.input, device)), kwargs


def _shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    def one(a: Any) -> str:
        if not isinstance(a, Tensor):
            return repr(a)
        return f"{str(a.dtype)[6:]} {'x'.join(map(str, a.shape)) or 'scalar'}"

    return ", ".join([*map(one, args), *(f"{k}={one(a)}" for k, a in kwargs.items())])
