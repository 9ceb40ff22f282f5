"""Units that pass no gradient: dead, saturated, or copies of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from manual_bp.explain.diagnosis.call import Call
from manual_bp.explain.diagnosis.case import Case
from manual_bp.explain.diagnosis.finding import Finding
from manual_bp.explain.diagnosis.summary import number

__all__ = ["DEAD_SHARE", "SATURATED", "SATURATED_SHARE", "dead", "saturated", "symmetric"]

DEAD_SHARE = 0.75
"""Of the units of a layer, how many may be off for the whole batch.

Networks that train well have such units (Lu et al. 2019, arXiv:1903.06733, on networks all of whose
units are). Over 900 diagnoses of healthy ones the largest share was 0.56, in the widening layer
behind a bottleneck of ReLUs, right after its initialization; it trained all the same."""

DEAD_CHANCE = 0.1
"""A unit that is on for half of the inputs is off for n of them with a chance of 0.5^n; with so
few observations that this is more, being off says nothing."""

SATURATED = 0.01
"""Slope, as a share of the steepest, below which an element counts as saturated: |x| above 6.0 for
a sigmoid, 3.0 for tanh."""

SATURATED_SHARE = 0.7
"""Of the elements of a hidden layer, how many may be saturated. Trained tanh networks go to about
a third (Glorot & Bengio 2010, figure 4); one that starts on its plateaus, above nine tenths."""

# Slope over the steepest slope, from the output.
_SQUASHING: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: 4 * y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "hardsigmoid": lambda y: ((y > 0) & (y < 1)).to(y.dtype),
    "hardtanh": lambda y: ((y > -1) & (y < 1)).to(y.dtype),
    "softsign": lambda y: (1 - y.abs()).square(),
}
_RECTIFYING = {"relu", "relu6", "threshold"}

# Elementwise or by channel: the axis of the units is that of the tensor that goes in.
_ALONG_CHANNELS = ("conv", "batch_norm", "instance_norm", "group_norm", "pool")


def dead(case: Case) -> Iterator[tuple[Finding, Call]]:
    """ReLU layers most of whose units are off for the whole batch, with their call."""
    inherited: set[int] = set()  # behind a layer that is dead altogether nothing varies any more
    for call, y in _activations(case, _RECTIFYING):
        units = _by_unit(case, call, y)
        if units is None or call.index in inherited:
            continue
        off = (units <= 0).all(1)
        share, n = off.double().mean().item(), units.shape[1]
        if share < DEAD_SHARE or 0.5**n > DEAD_CHANCE:
            continue
        count = int(off.sum())
        if share == 1:
            inherited |= case.watch.after(call)
        x = case.inputs(call)[0]
        first = off.nonzero()[:8, 0].tolist()
        yield (
            Finding(
                "dead units",
                call.module,
                f"{count} of {len(off)} units ({share:.0%}) are off for all {n} observations of "
                "the batch: no gradient passes through them, so what feeds them stays as it is. "
                f"Units {', '.join(map(str, first))}{', ...' if count > 8 else ''}; "
                f"what goes in is in [{number(x.low)}, {number(x.high)}].",
                operation=call.name,
                formula=call.spec.gradient if call.spec else "",
                tensors=case.inputs(call),
                numbers={"dead": count, "units": len(off), "share": share, "observations": n},
                severity="error" if share == 1 else "warning",
            ),
            call,
        )


def saturated(case: Case) -> Iterator[Finding]:
    """Hidden sigmoid and tanh layers that sit on their plateaus; an output layer may."""
    for call, y in _activations(case, _SQUASHING):
        after = case.watch.after(call)
        if not any(later.index in after for later in case.weighted):
            continue
        slope = _SQUASHING[call.name](y.double())
        share, mean = (slope < SATURATED).double().mean().item(), slope.mean().item()
        if share < SATURATED_SHARE:
            continue
        x = case.inputs(call)[0]
        yield Finding(
            "saturated units",
            call.module,
            f"{share:.0%} of {y.numel()} elements lie where the slope is below {SATURATED:.0%} of "
            f"the steepest; on average {mean:.1g} of the gradient passes. What goes in is in "
            f"[{number(x.low)}, {number(x.high)}], with a root mean square of {number(x.rms)}.",
            operation=call.name,
            formula=call.spec.gradient if call.spec else "",
            tensors=case.inputs(call),
            numbers={"share": share, "mean_slope": mean, "rms": x.rms, "elements": y.numel()},
        )


def symmetric(case: Case) -> Iterator[Finding]:
    """Layers whose units have equal weights and equal gradients: they stay equal for good."""
    for name, gradient in case.gradients.items():
        weight = case.parameters[name]
        if gradient is None or gradient.is_sparse or weight.ndim < 2 or len(weight) < 2:
            continue
        rows, slopes = weight.detach().flatten(1), gradient.detach().flatten(1)
        if rows.shape[1] == 0 or not torch.equal(rows, rows[:1].expand_as(rows)):
            continue
        scale = slopes.abs().max()
        # Equal but for the order in which a matrix product adds up.
        if (slopes - slopes[:1]).abs().max() > 8 * torch.finfo(slopes.dtype).eps * scale:
            continue
        values = number(float(rows.min())), number(float(rows.max()))
        yield Finding(
            "symmetric units",
            name,
            f"All {len(rows)} units have the same weights (in [{values[0]}, {values[1]}]) and get "
            f"the same gradient (largest {number(float(scale))}): they stay copies of one unit.",
            numbers={"units": len(rows), "gradient": float(scale)},
            severity="error",
        )


def _activations(
    case: Case, names: set[str] | dict[str, Callable[[Tensor], Tensor]]
) -> Iterator[tuple[Call, Tensor]]:
    """Calls of these functions with their output, where nobody has written over it since."""
    for call in case.watch.calls:
        if call.name not in names or not call.outputs:
            continue
        (_, version), y = next(iter(call.outputs.items()))
        if y._version == version and y.numel() and y.is_floating_point():
            yield call, y.detach()


def _by_unit(case: Case, call: Call, y: Tensor) -> Tensor | None:
    """The outputs as (units, observations)."""
    if y.ndim < 2:
        return None
    axis = 1 if y.ndim > 2 and _has_channels(case, call) else -1
    return y.movedim(axis, 0).flatten(1)


def _has_channels(case: Case, call: Call) -> bool:
    """Whether the units lie along axis 1: it comes from a convolution, not from a Linear."""
    for _ in range(8):
        makers = list(case.watch.before(call))
        if not makers:
            return False
        call = makers[0]
        if any(word in call.name for word in _ALONG_CHANNELS):
            return True
        if case.weights(call):
            return False
    return False
