"""The lessons, by their names on the command line."""

from manual_bp.explain.lesson import Lesson

__all__ = ["LESSONS"]

LESSONS: dict[str, Lesson] = {}
