"""One learning step, recorded: :func:`explain`."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack, _pop_mode_temporarily

from manual_bp.by_hand import by_hand
from manual_bp.explain.compare import largest
from manual_bp.explain.direct import direct_calls
from manual_bp.explain.explanation import Explanation, Update
from manual_bp.explain.loss import loss_name, loss_of
from manual_bp.explain.operation import Operation
from manual_bp.explain.record import Recorder
from manual_bp.explain.running import cause, detached, output_of, tensors
from manual_bp.explain.slopes import slopes
from manual_bp.explain.update import Stepped, rule, stepped

__all__ = ["explain"]


def explain(
    model: nn.Module,
    *inputs: Any,
    target: Any = None,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = None,
    **named: Any,
) -> Explanation:
    """Record one learning step of ``model`` on gradients by hand, and check it against autograd.

    The step is taken twice, by hand and by autograd, each time on a copy of the model and of the
    optimizer and from the same state of the random numbers. The model, its buffers, its gradients,
    the optimizer's state and the random numbers are left as they were: nothing is trained.
    Gradients that the model already holds do not take part.

    Args:
        model: Any module, in the mode (``train`` or ``eval``) in which it is.
        inputs: Positional arguments of its ``forward``.
        target: What the output should have been; given to ``loss`` as its second argument.
        loss: ``loss(output, target)``, or ``loss(output)`` where there is no target. Without one:
            the output's ``loss`` (models of the transformers library), the output itself where it
            is one number, or else, by the target, cross-entropy (classes, int64) or the mean
            squared error (numbers).
        optimizer: One over the model's parameters, from ``torch.optim`` or ``manual_bp.optim``;
            or a function from parameters to one. None: the weights do not move.
        named: Keyword arguments of ``forward``.

    Returns:
        The step, as data; ``print`` shows it.

    Raises:
        TypeError: For a model that is no module, or a loss or optimizer of another kind.
        ValueError: Where the model or the loss cannot run, the loss is not one number, no
            gradient is wanted for anything, or the model cannot be copied.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 2.0)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x, y = torch.tensor([[1.0]]), torch.tensor([[1.75]])
        >>> step = explain(model, x, target=y, optimizer=sgd)
        >>> step.update("weight").gradient.item(), round(step.update("weight").after.item(), 4)
        (0.5, 1.95)
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    _refuse(model, loss, optimizer)
    with _outside_of_by_hand(), _as_it_was(model):
        manual = _Run(model, inputs, target, loss, optimizer, named, manual=True)
    with _outside_of_by_hand(), _as_it_was(model):
        native = _Run(model, inputs, target, loss, optimizer, named, manual=False)
    notes = _compare(manual, native)
    ours, theirs = (run.take_step(manual.gradients) for run in (manual, native))
    return Explanation(
        model=type(model).__name__,
        operations=manual.recorder.operations,
        backward=manual.recorder.backward,
        updates=_updates(manual, native, ours, theirs),
        loss=manual.loss.detach().clone(),
        optimizer=ours.name or None,
        modules={name: type(module).__name__ for name, module in model.named_modules()},
        dtype=str(manual.loss.dtype).removeprefix("torch."),
        title=type(model).__name__,
        notes=notes,
    )


class _Run:
    """One step on copies."""

    def __init__(
        self,
        model: nn.Module,
        inputs: tuple[Any, ...],
        target: Any,
        loss: Callable[..., Any] | None,
        optimizer: Any,
        named: dict[str, Any],
        manual: bool,
    ) -> None:
        given = detached((inputs, named, target))
        try:
            model, loss, optimizer = copy.deepcopy((model, loss, optimizer))
        except Exception as error:
            raise ValueError(f"{type(model).__name__} cannot be copied: {cause(error)}") from error
        inputs, named, target = given
        _torchs_own(model)
        if isinstance(loss, nn.Module):
            _torchs_own(loss)
        model.zero_grad(set_to_none=True)
        self.model, self.manual = model, manual
        self.recorder = Recorder(model, list(tensors((inputs, named))), manual)
        with torch.enable_grad(), direct_calls(self.recorder, manual), self.recorder:
            output = output_of(model, inputs, named)
            self.recorder.standing_in("loss", loss_name(loss))
            self.loss = loss_of(output, target, loss)
        self.recorder.inside = True  # checkpoints that run forward again are told nothing of
        if not self.recorder.operations:
            raise ValueError(
                f"{type(model).__name__} makes no torch call that could be seen; of a scripted "
                "module, explain the one that it was made from"
            )
        if not self.loss.requires_grad:
            raise ValueError(
                f"the loss of {type(model).__name__} depends on nothing that requires a gradient"
            )
        if manual:
            slopes(self.recorder)
        self.loss.backward()
        self.gradients = {
            name: None if p.grad is None else p.grad.detach().clone()
            for name, p in model.named_parameters()
        }
        self.optimizer = optimizer

    def take_step(self, gradients: dict[str, Tensor | None]) -> Stepped:
        """Let the optimizer step on these gradients."""
        for name, p in self.model.named_parameters():
            p.grad = gradients[name]
        return stepped(self.model, self.optimizer, self.manual)


def _refuse(model: Any, loss: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"explain() takes a torch.nn.Module, got {type(model).__name__}")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is called as loss(output, target), got {type(loss).__name__}")
    if optimizer is not None and not (
        isinstance(optimizer, torch.optim.Optimizer) or callable(optimizer)
    ):
        raise TypeError(
            "optimizer is a torch.optim.Optimizer or a function from parameters to one, "
            f"got {type(optimizer).__name__}"
        )


def _compare(manual: _Run, native: _Run) -> list[str]:
    """Put autograd's gradients beside those by hand; what cannot be compared goes to the notes."""
    ours, theirs = manual.recorder.operations, native.recorder.operations
    if [_key(o) for o in ours] != [_key(o) for o in theirs]:
        return [
            "The model did not call the same operations twice, so that the gradients of single "
            "operations are not compared with autograd's."
        ]
    mixed = manual.recorder.mixed | native.recorder.mixed
    for operation, other in zip(ours, theirs, strict=True):
        scale = max((largest(s.gradient) for s in other.symbols), default=0.0)
        pairs = [*zip(operation.inputs, other.inputs, strict=True)]
        # Autograd through a forward of ours has what is kept for the backward as outputs, too.
        pairs += zip(operation.outputs, other.outputs, strict=False)
        for symbol, reference in pairs:
            if id(symbol) not in mixed and id(reference) not in mixed:
                symbol.autograd, symbol.scale = reference.gradient, scale
    return []


def _key(operation: Operation) -> tuple[str, str, int]:
    return operation.name, operation.module, len(operation.inputs)


def _updates(manual: _Run, native: _Run, ours: Stepped, theirs: Stepped) -> list[Update]:
    scale = max((largest(_dense(g)) for g in native.gradients.values()), default=0.0)
    found = []
    for name, p in manual.model.named_parameters():
        text, numbers = rule(ours.optimizer, p)
        found.append(
            Update(
                name=name,
                before=ours.before[name],
                gradient=_dense(manual.gradients[name]),
                after=ours.after.get(name),
                wanted=p.requires_grad,
                autograd=_dense(native.gradients[name]),
                reference=theirs.after.get(name),
                rule=text,
                numbers=numbers,
                scale=scale,
            )
        )
    return found


def _dense(g: Tensor | None) -> Tensor | None:
    return g.detach().to_dense() if g is not None and g.is_sparse else g


def _torchs_own(model: nn.Module) -> None:
    """Turn the modules by hand of a copy into those of ``torch.nn`` that they subclass.

    They call the gradients by hand directly. In torch's own form their calls are seen, and are
    taken by hand, or not, by the recorder alone.
    """
    for module in model.modules():
        kind = type(module)
        if kind.__module__.startswith("manual_bp.layers."):
            base = next(b for b in kind.__mro__ if b.__module__.startswith("torch.nn"))
            module.__class__ = base


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Leave the random numbers as they were."""
    devices = {t.device for t in (*model.parameters(), *model.buffers()) if t.is_cuda}
    state = random.getstate()
    try:
        with torch.random.fork_rng(sorted({d.index for d in devices})):
            yield
    finally:
        random.setstate(state)


@contextmanager
def _outside_of_by_hand() -> Iterator[None]:
    """Leave the ``by_hand()`` that the caller may be in: the recorder decides what is by hand."""
    with ExitStack() as stack:
        while modes := _get_current_function_mode_stack():
            if not isinstance(modes[-1], by_hand):
                break
            stack.enter_context(_pop_mode_temporarily())
        yield
