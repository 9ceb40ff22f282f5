"""Is a hand-written gradient right? :func:`check` compares it to autograd from all sides."""

from manual_bp.conformance.check import assert_equivalent, check
from manual_bp.conformance.report import Report
from manual_bp.conformance.testing import equivalent_to

__all__ = ["Report", "assert_equivalent", "check", "equivalent_to"]
