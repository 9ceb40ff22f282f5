"""The probes, the most basic first: what fails early explains what fails later."""

from __future__ import annotations

from manual_bp.conformance.probe import Probe
from manual_bp.conformance.probes.basic import cotangents, example, frozen, layouts
from manual_bp.conformance.probes.second import second_order

__all__ = ["PROBES"]

PROBES: tuple[Probe, ...] = (example, frozen, cotangents, layouts, second_order)
