"""One step of backprop, operation by operation, number by number: :func:`explain`."""

from manual_bp.explain.explanation import Explanation, Table, Update
from manual_bp.explain.lesson import Lesson, Setup
from manual_bp.explain.operation import Operation, Symbol
from manual_bp.explain.step import explain

__all__ = [
    "Explanation",
    "Lesson",
    "Operation",
    "Setup",
    "Symbol",
    "Table",
    "Update",
    "explain",
]
