"""One step of a model by hand and by autograd, compared parameter by parameter, call by call."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from manual_bp.audit import Audit, audit, function_of, nodes_behind
from manual_bp.by_hand import by_hand
from manual_bp.located import located
from manual_bp.model_audit.calls import Arrivals, CallResult, Replay
from manual_bp.model_audit.in_float64 import InFloat64
from manual_bp.precision import relative_error

__all__ = ["ModelAudit", "ParameterResult", "audit_model"]

# Rounding in float64, through some hundred operations, with room to spare.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class ParameterResult:
    """The gradient of one parameter.

    Attributes:
        name: As ``named_parameters()`` has it.
        shape: Of the parameter.
        norm: Of autograd's gradient; None where it has none.
        error: Relative error of the gradient by hand.
    """

    name: str
    shape: tuple[int, ...]
    norm: float | None
    error: float


@dataclass(frozen=True)
class ModelAudit:
    """What the comparison showed.

    Attributes:
        report: The operations behind the output, by hand and left to autograd.
        files: Operation by hand to the file that holds its gradient.
        parameters: One result for each parameter that requires a gradient.
        calls: One result for each call by hand that a gradient reaches, in the order in which
            backprop meets them: nearest to the loss first.
        reference_by_hand: Operations by hand in the reference, which autograd cannot vouch for:
            the model calls them itself.
        failure: What was raised when the whole step was made by hand, if anything.
        tolerance: The error up to which two gradients are the same.
    """

    report: Audit
    files: Mapping[str, str]
    parameters: tuple[ParameterResult, ...]
    calls: tuple[CallResult, ...]
    reference_by_hand: tuple[str, ...] = ()
    failure: str = ""
    tolerance: float = field(default=TOLERANCE)

    @property
    def differing(self) -> tuple[CallResult, ...]:
        """The calls whose gradient or output is another than autograd's; the first one first."""
        return tuple(call for call in self.calls if call.differs(self.tolerance))

    @property
    def wrong(self) -> tuple[ParameterResult, ...]:
        """The parameters whose gradient is another than autograd's."""
        return tuple(p for p in self.parameters if not p.error <= self.tolerance)

    @property
    def agrees(self) -> bool:
        """Whether every gradient is autograd's."""
        return not self.wrong and not self.differing and not self.failure

    def __str__(self) -> str:
        """Write the tables."""
        from manual_bp.model_audit.render import plain

        return plain(self)


def audit_model(
    model: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    only: Iterable[str] | None = None,
    seed: int = 0,
) -> ModelAudit:
    """Run one step of a model by hand and by autograd, in float64, and compare.

    Args:
        model: Any module, in the mode (training or evaluation) to compare it in. It is copied.
        args: What it is called with.
        kwargs: The same by name. If the output has a tensor ``loss``, that is differentiated;
            else every output, along a random direction.
        only: As for :func:`manual_bp.by_hand`.
        seed: Of everything random in the model, and of the direction.

    Returns:
        The comparison; ``print`` shows it.

    Raises:
        ValueError: If nothing requires a gradient, or the model gives another result when it is
            run again under the same seed.

    All gradients between the operations are kept meanwhile: take a small example.
    """
    args, kwargs = tree_map(_widened, (tuple(args), dict(kwargs or {})))
    wanted = by_hand(only).only
    native, manual = copy.deepcopy(model).double(), copy.deepcopy(model).double()
    for module in native.modules():  # manual_bp.nn.Linear back to torch.nn.Linear
        if (origin := _mirrored(type(module))) is not None:
            module.__class__ = origin
    buffers = {name: buffer.clone() for name, buffer in native.named_buffers()}

    arrivals = Arrivals(wanted)
    with _seeded(seed, arrivals, InFloat64()):
        first = _outputs(native(*args, **kwargs))
    parameters = {name: p for name, p in native.named_parameters() if p.requires_grad}
    if not first or not parameters:
        raise ValueError("no output of the model depends on a parameter that requires a gradient")
    direction = _direction(first, seed)
    expected = _gradients(first, parameters, direction)

    with torch.no_grad():
        for name, buffer in native.named_buffers():
            buffer.copy_(buffers[name])
    where = located()
    replay = Replay(arrivals.gradients, wanted, where)
    with _seeded(seed, where, replay, InFloat64()):
        second = _outputs(native(*args, **kwargs))
    if len(first) != len(second) or not all(map(_same, first, second)):
        raise ValueError("the model gives another result when it is run again under the same seed")

    outputs: list[Tensor] = []
    found: list[Tensor | None] = [None] * len(parameters)
    failure = ""
    try:
        with _seeded(seed, by_hand(wanted), located(), InFloat64()):
            outputs = _outputs(manual(*args, **kwargs))
        found = _gradients(outputs, dict(manual.named_parameters()), direction, parameters)
    except Exception as error:  # a gradient by hand may do anything: that is what is asked
        failure = f"{type(error).__name__}: {error}".splitlines()[0]
    scale = max((float(g.norm()) for g in expected if g is not None), default=0.0)
    files = _files(outputs)
    return ModelAudit(
        audit(outputs),
        files,
        tuple(
            ParameterResult(
                name,
                tuple(p.shape),
                None if b is None else float(b.norm()),
                relative_error(a, b, scale),
            )
            for (name, p), a, b in zip(parameters.items(), found, expected, strict=True)
        ),
        tuple(reversed(replay.results)),
        tuple(sorted(_files(first))),
        failure,
    )


def _widened(a: Any) -> Any:
    if not isinstance(a, Tensor):
        return a
    return a.double() if a.is_floating_point() else a.to(torch.complex128) if a.is_complex() else a


def _mirrored(kind: type) -> type | None:
    """The class of torch.nn that one of manual_bp.nn mirrors."""
    ours = kind.__module__.startswith("manual_bp.layers.")
    return kind.__mro__[1] if ours and kind.__mro__[1].__name__ == kind.__name__ else None


@contextmanager
def _seeded(seed: int, *modes: Any) -> Iterator[None]:
    torch.manual_seed(seed)
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
    with ExitStack() as stack:
        for mode in modes:
            stack.enter_context(mode)
        yield


def _outputs(result: Any) -> list[Tensor]:
    loss = getattr(result, "loss", None)
    leaves = [loss] if isinstance(loss, Tensor) else tree_leaves(result)
    return [y for y in leaves if isinstance(y, Tensor) and y.requires_grad]


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def _direction(outputs: list[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.ones_like(y)
        if y.dim() == 0
        else torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        for y in outputs
    ]


def _gradients(
    outputs: list[Tensor],
    parameters: Mapping[str, Tensor],
    direction: list[Tensor],
    names: Iterable[str] | None = None,
) -> list[Tensor | None]:
    leaves = [parameters[name] for name in (parameters if names is None else names)]
    gradients = torch.autograd.grad(outputs, leaves, direction, allow_unused=True)
    return [None if g is None else g.to_dense() for g in gradients]


def _files(outputs: list[Tensor]) -> dict[str, str]:
    """The files of the Functions by hand behind the outputs, as far as they are this library's."""
    functions = {function_of(node) for node in nodes_behind(outputs)} - {None}
    return {
        f.__name__: f.__module__.replace(".", "/") + ".py"
        for f in functions
        if f is not None and f.__module__.startswith("manual_bp.")
    }
