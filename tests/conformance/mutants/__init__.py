"""Wrong backwards and right ones, to try a checker on.

The wrong ones were written before anyone looked at what finds them, half of them from bug reports
alone. :data:`WRONG` and :data:`RIGHT` list them, each with its source.
"""

from . import (
    arguments,
    fields,
    graph,
    indexing,
    losses,
    memory,
    norms,
    numbers,
    options,
    outside,
    precision,
    right_functions,
    shapes,
    state,
    torch_own,
    values,
    whole_numbers,
)
from .catalogue import RIGHT, WRONG, Entry

__all__ = ["RIGHT", "WRONG", "Entry"]

_WRITTEN_IN = (
    arguments,
    fields,
    graph,
    indexing,
    losses,
    memory,
    norms,
    numbers,
    options,
    outside,
    precision,
    right_functions,
    shapes,
    state,
    torch_own,
    values,
    whole_numbers,
)
