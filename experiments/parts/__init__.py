"""Pieces of the studies that one file would be too long for."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.study import Figure, Table, Verdict


@dataclass(frozen=True)
class Part:
    """What one part of a study found; see :class:`experiments.study.Findings`."""

    verdict: Verdict
    table: Table
    figure: Figure | None = None
    warnings: Sequence[str] = ()
