"""The base class of every hand-written gradient, and what torch does around a gradient.

A layer writes three static methods, none of which touches anything but its arguments::

    forward(x, ...)                      the output, and after it what the backward needs
    setup_context(ctx, inputs, output)   what is saved
    backward(ctx, grad_y)                one gradient an argument, in argument order

In this form ``torch.func`` (``grad``, ``vmap``, ``jacrev``), ``torch.compile(fullgraph=True)``,
checkpointing and distributed training work without another line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._functorch.autograd_function import custom_function_call
from torch.autograd.function import FunctionCtx

__all__ = [
    "FromBoth",
    "FromInput",
    "FromNeither",
    "FromOutput",
    "Function",
    "in_dtype",
    "is_recorded",
    "nothing_to_do",
    "of_real_numbers",
    "under_autocast",
    "widened",
]

P = ParamSpec("P")
R = TypeVar("R")


class Function(torch.autograd.Function):
    """``torch.autograd.Function`` with a short way in.

    ``torch.autograd.Function.apply`` binds the signature of ``forward`` at every call to fill in
    defaults. Here the functional face of a layer supplies every argument in order, so ``apply``
    takes positional arguments only and goes straight to the engine: about 5 us over a native
    operation, against 36.
    """

    generate_vmap_rule = True

    _apply_in_engine: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The engine's own apply, bound to this class: what torch.autograd.Function.apply ends in.
        cls._apply_in_engine = super(torch.autograd.Function, cls).apply  # type: ignore[misc]
        if "forward" in vars(cls) and _takes_any_number(cls.forward):
            cls.forward = staticmethod(_without_ctx(cls.forward))  # type: ignore[method-assign]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run ``forward`` and record ``backward``; ``args`` are all of ``forward``'s."""
        if torch._C._are_functorch_transforms_active():
            return custom_function_call(cls, *args)
        return cls._apply_in_engine(*args)


def _takes_any_number(f: Callable[..., Any]) -> bool:
    kinds = [p.kind for p in inspect.signature(f).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _without_ctx(forward: Callable[..., R]) -> Callable[..., R]:
    """Drop the ctx that Dynamo hands to a forward with ``*args`` where nothing needs a gradient.

    It tells a forward that takes a ctx from one that does not by the number of parameters.
    """

    @functools.wraps(forward)
    def called(*args: Any) -> R:
        return forward(*args[1:]) if isinstance(args[0], FunctionCtx) else forward(*args)

    return called


class FromInput(Function):
    """``y = f(x)``, element by element, with a derivative that is told from ``x``.

    A subclass writes ``forward`` and ``backward`` alone. The arguments after ``x`` are numbers;
    ``backward`` finds them in ``ctx.numbers``.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save ``x``, and the numbers."""
        x, *ctx.numbers = inputs
        ctx.save_for_backward(x)


class FromOutput(Function):
    """``y = f(x)``, element by element, with a derivative that is told from ``y``.

    As :class:`FromInput`, but kept is ``y``, which the next layer most often keeps too.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save ``y``, and the numbers."""
        _, *ctx.numbers = inputs
        ctx.save_for_backward(output)


class FromBoth(Function):
    """``y = f(x)``, element by element, with a derivative that is told from ``x`` and ``y``."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save ``x`` and ``y``, and the numbers."""
        x, *ctx.numbers = inputs
        ctx.save_for_backward(x, output)


class FromNeither(Function):
    """``y = f(x)`` with one slope for every ``x``: the backward needs neither ``x`` nor ``y``."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save nothing."""


def is_recorded() -> bool:
    """Whether the operations of the backward that asks are differentiated or batched in turn.

    So it is with ``create_graph=True``, inside ``torch.func`` transforms and while
    ``torch.compile`` traces. A backward then has to be written in operations that do not modify
    their operands and in terms of its inputs, not of intermediates that count as constants.
    Where the answer is no, it may take the quick form of the same formula.
    """
    return (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or torch._C._are_functorch_transforms_active()
    )


def nothing_to_do(*operands: Any) -> bool:
    """Whether no operand needs a gradient, as far as can be told: not inside a transform."""
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return False
    return not torch.is_grad_enabled() or not any(
        isinstance(x, Tensor) and x.requires_grad for x in operands
    )


def widened(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The tensors as a formula of several steps computes with them: 16-bit ones in float32.

    Rounding to 16 bits after each step would add an error at each; native kernels round once.
    """
    low = (torch.bfloat16, torch.float16)
    return tuple(t.float() if t is not None and t.dtype in low else t for t in tensors)


def in_dtype(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient in the dtype of its argument, of which a real one takes the real part."""
    if grad.is_complex() and not dtype.is_complex:
        grad = grad.real
    return grad.to(dtype)


class CastFunction(Function):
    """A change of dtype: the gradient changes back."""

    @staticmethod
    def forward(x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return ``x`` in ``dtype``."""
        return x.to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Remember the dtype to go back to."""
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient in the dtype of ``x``."""
        return in_dtype(grad_y, ctx.dtype), None


def of_real_numbers(native: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Leave calls with complex numbers to ``native``: the formula of the face is of real ones."""

    def decorate(face: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(face)
        def choose(*args: P.args, **kwargs: P.kwargs) -> R:
            for a in (*args, *kwargs.values()):
                if isinstance(a, Tensor) and a.is_complex():
                    return native(*args, **kwargs)
            return face(*args, **kwargs)

        return choose

    return decorate


def under_autocast(
    policy: Literal["lower", "float32"], devices: tuple[str, ...] = ("cpu", "cuda")
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a functional face the place it has in ``torch.autocast``'s lists.

    As torch does, the arguments are cast first, by an operation with a gradient of its own, and
    the face runs with autocast off, so that its backward meets the dtypes its forward met.

    Args:
        policy: "lower" casts floating-point tensors to the low precision (matrix products),
            "float32" casts them up (softmax, losses). float64 is left alone, as torch leaves it.
        devices: The device types whose list the operation is on.
    """

    def decorate(face: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(face)
        def cast_then_run(*args: P.args, **kwargs: P.kwargs) -> R:
            if not torch._C._is_any_autocast_enabled():
                return face(*args, **kwargs)
            device = next(
                (a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), "cpu"
            )
            if device not in devices or not torch.is_autocast_enabled(device):
                return face(*args, **kwargs)
            dtype = torch.get_autocast_dtype(device) if policy == "lower" else torch.float32

            def cast(a: Any) -> Any:
                if isinstance(a, (list, tuple)):  # the weights of a recurrent net, a list to join
                    return type(a)(map(cast, a))
                if not isinstance(a, Tensor) or not a.is_floating_point():
                    return a
                if a.dtype in (dtype, torch.float64):
                    return a
                return CastFunction.apply(a, dtype)

            with torch.autocast(device, enabled=False):
                return face(*map(cast, args), **{k: cast(v) for k, v in kwargs.items()})

        return cast_then_run

    return decorate
