"""Wrong backwards and right ones, to try a checker on.

The wrong ones were written before anyone looked at what finds them, half of them from bug reports
alone. :data:`WRONG` and :data:`RIGHT` list them, each with its source.
"""

from . import (
    arguments,
    graph,
    indexing,
    losses,
    memory,
    norms,
    precision,
    right_functions,
    shapes,
    torch_own,
    values,
)
from .catalogue import RIGHT, WRONG, Entry

__all__ = ["RIGHT", "WRONG", "Entry"]

_WRITTEN_IN = (
    arguments,
    graph,
    indexing,
    losses,
    memory,
    norms,
    precision,
    right_functions,
    shapes,
    torch_own,
    values,
)
