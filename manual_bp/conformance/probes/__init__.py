"""The probes, the most basic first: what fails early explains what fails later."""

from __future__ import annotations

from manual_bp.conformance.probe import Probe
from manual_bp.conformance.probes.basic import cotangents, example, frozen, layouts, outputs
from manual_bp.conformance.probes.calls import (
    modes,
    overwritten,
    same_tensor,
    two_backwards,
    two_calls,
)
from manual_bp.conformance.probes.discrete import indices, masks, options
from manual_bp.conformance.probes.half_range import float16_range
from manual_bp.conformance.probes.memory import aliases, kept_alive
from manual_bp.conformance.probes.precision import bfloat16, float16, float32
from manual_bp.conformance.probes.second import second_order
from manual_bp.conformance.probes.sizes import empty, large, ranks, sizes
from manual_bp.conformance.probes.transforms import autocast, compiled, functional_grad, jvp, vmap
from manual_bp.conformance.probes.values import extremes, kinks, signs, ties, zeros

__all__ = ["PROBES", "TRANSFORMS"]

PROBES: tuple[Probe, ...] = (
    example,
    frozen,
    outputs,
    cotangents,
    layouts,
    sizes,
    empty,
    ranks,
    large,
    zeros,
    kinks,
    ties,
    signs,
    extremes,
    indices,
    masks,
    options,
    same_tensor,
    two_calls,
    two_backwards,
    overwritten,
    second_order,
    modes,
    aliases,
    kept_alive,
    float32,
    bfloat16,
    float16,
    float16_range,
    functional_grad,
    vmap,
    jvp,
    autocast,
    compiled,
)

#: Names of the probes that run only when asked for.
TRANSFORMS: tuple[str, ...] = tuple(probe.name for probe in PROBES if probe.optional)
