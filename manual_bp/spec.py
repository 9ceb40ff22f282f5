"""What a layer says about itself: enough to prove it, time it, list it and put it in place.

A layer's file ends in a :class:`Spec`. The tests, ``by_hand()``, ``manual_bp.nn``,
``manual_bp.functional``, the benchmark, the tables of the README and of ``python -m manual_bp
list`` all iterate over the specs, so that a new layer is one file and one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

__all__ = ["Draw", "Sample", "Spec", "sample", "specs_in"]


@dataclass(frozen=True)
class Sample:
    """One call: positional and keyword arguments, and what is special about it.

    Attributes:
        args: Positional arguments; tensors that require a gradient are differentiated.
        kwargs: Keyword arguments; tensors among them count as constants.
        label: What the sample covers, for a test's name.
        smooth: False at a kink, where a numerical derivative means nothing.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    smooth: bool = True

    def __str__(self) -> str:
        """Give the label, or else the arguments with shapes for tensors."""
        shown = [f"{tuple(a.shape)}" if isinstance(a, Tensor) else repr(a) for a in self.args]
        shown += [f"{k}={v}" for k, v in self.kwargs.items() if not isinstance(v, Tensor)]
        return self.label or ", ".join(shown)


def sample(*args: Any, label: str = "", smooth: bool = True, **kwargs: Any) -> Sample:
    """Write a :class:`Sample` the way its call is written."""
    return Sample(args, kwargs, label, smooth)


class Draw:
    """Draws the tensors of a sample, always the same ones for the same seed.

    Args:
        seed: Of a generator of its own; the global one is left alone.
        dtype: Of the floating-point tensors.
        device: Where tensors are put.
    """

    def __init__(
        self,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        self.device = torch.device(device)

    def __call__(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        """Normal numbers ``scale * z + shift`` that require a gradient."""
        return self.fixed(*shape, scale=scale, shift=shift).requires_grad_()

    def fixed(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        """Normal numbers that do not require a gradient: a target, a running mean."""
        # Drawn in float64 and rounded, so that every dtype sees the same sample.
        wide = torch.complex128 if self.dtype.is_complex else torch.float64
        z = torch.randn(shape, generator=self.generator, dtype=wide)
        return (z * scale + shift).to(self.device, self.dtype)

    def complex(self, *shape: int) -> Tensor:
        """Complex numbers, both parts normal, that require a gradient."""
        return torch.complex(self.fixed(*shape), self.fixed(*shape)).requires_grad_()

    def values(self, *numbers: float) -> Tensor:
        """These very numbers, requiring a gradient: zeros, kinks, ties, extremes."""
        tensor = torch.tensor(numbers, dtype=torch.float64)
        return tensor.to(self.device, self.dtype).requires_grad_()

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high) that do not require a gradient."""
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (u * (high - low) + low).to(self.device, self.dtype)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Class indices in [0, high), int64."""
        return torch.randint(high, shape, generator=self.generator).to(self.device)


Samples = Callable[[Draw], Iterable[Sample]]


def _no_samples(draw: Draw) -> Iterable[Sample]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A layer or operation: what it computes, what it mirrors and the calls that cover it.

    Attributes:
        name: As ``by_hand(only={name})`` and the command line know it.
        formula: The forward pass in one line.
        gradient: The gradients in one line.
        manual: The functional face, by hand.
        native: The torch callable it mirrors, argument for argument.
        samples: Calls of the functional face that cover every branch and special value.
        refused: Calls with bad arguments, which must raise what the native one raises.
        modules: Each Module by hand, a direct subclass of the one in ``torch.nn``, with the
            samples that cover it: ``args[0]`` is the input, or a tuple of inputs; ``args[1:]``
            and ``kwargs`` go to the constructor.
        overrides: The torch callables that ``by_hand()`` replaces with ``manual``, each called
            with the same arguments as ``manual``; ``native`` is always among them.
        inplace: Torch callable to manual callable, for forms that differ from ``manual`` in
            their arguments (``Tensor.relu_``, ``Tensor.__iadd__``).
        bench: Samples to time, the small one first.
        second_order: Whether gradients of gradients are right; False where it raises instead.
        vmap: Whether ``torch.func.vmap`` goes through it.
        compiles: Whether ``torch.compile(fullgraph=True)`` goes through it.
        modifies: Whether it writes into its first argument; it is then tested on a copy.
        random: Whether it draws random numbers, which the same seed must reproduce.
        skip: Probes of :func:`manual_bp.check` that would call it as it cannot be called: where
            arguments fit only each other, and torch reads outside of its memory if they do not.
    """

    name: str
    formula: str
    gradient: str
    manual: Callable[..., Any]
    native: Callable[..., Any]
    samples: Samples
    refused: Samples = _no_samples
    modules: dict[type[torch.nn.Module], Samples] = field(default_factory=dict)
    overrides: tuple[Callable[..., Any], ...] = ()
    inplace: dict[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)
    bench: Samples = _no_samples
    second_order: bool = True
    vmap: bool = True
    compiles: bool = True
    modifies: bool = False
    random: bool = False
    skip: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file that holds it, as seen from the checkout: ``manual_bp/layers/linear.py``."""
        return self.manual.__module__.replace(".", "/") + ".py"

    @property
    def replaced(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """Torch callable to manual callable: what ``by_hand()`` puts in place."""
        return {f: self.manual for f in (self.native, *self.overrides)} | self.inplace


def specs_in(package: str, files: tuple[str, ...]) -> tuple[Spec, ...]:
    """Every spec at the top level of the named files of a package, in their order."""
    return tuple(
        value
        for file in files
        for value in vars(import_module(f"{package}.{file}")).values()
        if isinstance(value, Spec)
    )
