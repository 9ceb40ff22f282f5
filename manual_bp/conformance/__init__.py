"""Is a hand-written gradient right? :func:`check` compares it to autograd from all sides."""

from manual_bp.conformance.check import assert_equivalent, check
from manual_bp.conformance.report import Report

__all__ = ["Report", "assert_equivalent", "check"]
