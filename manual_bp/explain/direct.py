"""Gradients by hand that a model calls itself, past every torch call: ``SwishFunction.apply``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch

from manual_bp.explain.record import Recorder
from manual_bp.explain.symbols import arguments
from manual_bp.function import Function
from manual_bp.layers import SPECS
from manual_bp.spec import Spec

__all__ = ["direct_calls"]


@contextmanager
def direct_calls(recorder: Recorder, manual: bool) -> Iterator[None]:
    """Tell the recorder of each ``autograd.Function`` that is applied outside of a torch call.

    Args:
        recorder: What notes them.
        manual: False: autograd differentiates the forward of a Function of this library, which is
            made of torch's operations. A Function of somebody else's stays what it is.
    """
    ours, torchs = vars(Function)["apply"], vars(torch.autograd.Function)["apply"]

    def noted(original: Any) -> Any:
        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            def call() -> Any:
                if not manual and issubclass(cls, Function):
                    return cls.forward(*args, **kwargs)
                return original.__get__(None, cls)(*args, **kwargs)

            if recorder.inside or not torch.is_grad_enabled():
                return call() if recorder.inside else original.__get__(None, cls)(*args, **kwargs)
            spec = _face_above()
            name = spec.name if spec is not None else cls.__name__
            return recorder.told(name, spec, *arguments(spec, args, kwargs, cls.forward), call)

        return classmethod(apply)

    Function.apply, torch.autograd.Function.apply = noted(ours), noted(torchs)  # type: ignore
    try:
        yield
    finally:
        Function.apply, torch.autograd.Function.apply = ours, torchs  # type: ignore


def _face_above() -> Spec | None:
    """The spec whose functional face is being run, if one is."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code in _FACES:
            return _FACES[frame.f_code]
        frame = frame.f_back  # type: ignore[assignment]
    return None


_FACES: dict[CodeType, Spec] = {
    code: spec
    for spec in SPECS
    if (code := getattr(inspect.unwrap(spec.manual), "__code__", None)) is not None
}
