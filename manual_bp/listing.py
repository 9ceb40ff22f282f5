"""What is by hand, line by line: for ``python -m manual_bp list`` and for the documentation."""

from __future__ import annotations

from typing import Any

from manual_bp.precision import DTYPES, Precision, precision
from manual_bp.spec import Spec

__all__ = ["ERRORS", "HEAD", "cells", "described", "errors", "shown"]

HEAD = ("name", "forward", "backward", "modules", "2nd", "vmap", "compile", "file")
ERRORS = tuple(str(dtype).removeprefix("torch.") for dtype in DTYPES)

Measured = dict[str, Precision | None]


def cells(spec: Spec) -> tuple[str, ...]:
    """What a spec says of itself, in the order of ``HEAD``."""
    return (
        spec.name,
        spec.formula,
        spec.gradient,
        ", ".join(module.__name__ for module in spec.modules),
        *("yes" if holds else "no" for holds in (spec.second_order, spec.vmap, spec.compiles)),
        spec.file,
    )


def errors(spec: Spec) -> Measured:
    """The error of a spec's gradients in each dtype of ``ERRORS``, measured now."""
    return {name: precision(spec, dtype) for name, dtype in zip(ERRORS, DTYPES, strict=True)}


def shown(measured: Measured) -> tuple[str, ...]:
    """Errors as text: in float64 the one by hand, below it by hand / by autograd."""
    texts = []
    for name in ERRORS:
        found = measured[name]
        if found is None:
            texts.append("-")
        elif name == "float64":
            texts.append(f"{found.manual:.0e}")
        else:
            texts.append(f"{found.manual:.0e} / {found.native:.0e}")
    return tuple(texts)


def described(spec: Spec, measured: Measured | None = None) -> dict[str, Any]:
    """A spec for JSON, with its errors where they were measured."""
    facts: dict[str, Any] = {
        "name": spec.name,
        "forward": spec.formula,
        "backward": spec.gradient,
        "modules": [module.__name__ for module in spec.modules],
        "second_order": spec.second_order,
        "vmap": spec.vmap,
        "compile": spec.compiles,
        "file": spec.file,
    }
    if measured is not None:
        facts["errors"] = {
            name: None if e is None else {"by_hand": e.manual, "autograd": e.native}
            for name, e in measured.items()
        }
    return facts
