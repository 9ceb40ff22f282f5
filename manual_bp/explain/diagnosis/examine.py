"""Watch one step and collect what all detectors find, the gravest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Diagnosis, Finding
from manual_bp.explain.diagnosis.flow import exploding, vanishing
from manual_bp.explain.diagnosis.nonfinite import is_finite, not_finite
from manual_bp.explain.diagnosis.reach import no_gradient
from manual_bp.explain.diagnosis.state import untouched
from manual_bp.explain.diagnosis.stepping import stepping
from manual_bp.explain.diagnosis.steps import attempt
from manual_bp.explain.diagnosis.units import dead, saturated, symmetric
from manual_bp.explain.diagnosis.usage import constant, inputs, padding, softmax_twice
from manual_bp.explain.diagnosis.watch import Watch
from manual_bp.explain.diagnosis.zero import zero_gradient

__all__ = ["examine"]

_GRAVITY = {"error": 0, "warning": 1, "note": 2}


def examine(
    model: nn.Module,
    run: Callable[[], Tensor],
    given: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Diagnose a step that a function takes.

    Args:
        model: Whose parameters are looked at. Everything in it is left as it was.
        run: Computes the loss of a batch, with gradients on; called once, and once more where
            there is an optimizer.
        given: The batch, by name.
        optimizer: What would step; a copy does.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    watch = Watch(modules)
    with untouched(model), torch.enable_grad():
        buffers = dict(model.named_buffers())
        with watch:
            loss = run()
        gradients = _gradients(watch, loss, parameters)
    case = Case(modules, parameters, buffers, dict(given), watch, loss, gradients)
    sane = is_finite(case) and not any(not p.isfinite().all() for p in parameters.values())
    if optimizer is not None and sane:

        def again() -> Tensor:
            with untouched(model), torch.enable_grad():
                return run()

        case.step = attempt(parameters, gradients, optimizer, float(loss.detach()), again)
    findings = _findings(case, sane)
    return Diagnosis(
        model=type(model).__name__,
        findings=tuple(sorted(findings, key=lambda f: _GRAVITY[f.severity])),
        loss=float(loss.detach()),
        calls=len(watch.calls),
        parameters=sum(p.numel() for p in parameters.values()),
    )


def _gradients(
    watch: Watch, loss: Tensor, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor | None]:
    wanted = {name: p for name, p in parameters.items() if p.requires_grad}
    found: dict[str, Tensor | None] = dict.fromkeys(parameters)
    if loss.requires_grad and wanted:
        remove = watch.follow(loss)
        try:
            given = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"the backward pass cannot run: {reason}") from error
        finally:
            remove()
        found |= zip(wanted, given, strict=True)
    return found


def _findings(case: Case, sane: bool) -> list[Finding]:
    """Causes before what follows from them; with NaN about, what can be told all the same."""
    found = [*not_finite(case), *no_gradient(case), *softmax_twice(case), *inputs(case)]
    found += [*constant(case), *padding(case)]
    if not sane:
        return found + [f for f in exploding(case) if f.kind == "exploding activations"]
    unable = list(dead(case))
    found += [finding for finding, _ in unable]
    found += [*saturated(case), *symmetric(case)]
    found += zero_gradient(case, {call.index for _, call in unable})
    found += [*exploding(case), *vanishing(case), *stepping(case)]
    return found
