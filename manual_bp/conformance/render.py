"""The report as text."""

from __future__ import annotations

from manual_bp.conformance.report import Failure, Report

__all__ = ["render"]


def render(report: Report, width: int | None = None, colour: bool = False) -> str:
    """The report as a table of probes and the details of what failed."""
    lines = [f"{report.manual} against {report.reference}   ({report.call})", ""]
    for probe in report.probes:
        detail = f"{probe.cases} cases" if probe.cases else "; ".join(probe.reasons)
        lines.append(f"  {probe.status:9} {probe.name:16} {detail}")
    for failure in report.failures:
        lines += ["", *_failure(failure)]
    lines += ["", "passed" if report.passed else f"FAILED: {len(report.failures)} problems"]
    return "\n".join(lines)


def _failure(failure: Failure) -> list[str]:
    problem = failure.problem
    lines = [f"{failure.probe}: {problem.subject} {problem.text} ({failure.case})"]
    if problem.mismatch is not None:
        m = problem.mismatch
        lines.append(
            f"  at {list(m.index)}: {m.manual!r}, autograd {m.reference!r}, relative error "
            f"{m.relative:.3g}, {m.ulps:.3g} ULPs, {m.wrong} of {m.total} elements"
        )
    lines.append(f"  call: {failure.call}")
    if problem.hint:
        lines.append(f"  {problem.hint}")
    return lines
