"""The forms in which an :class:`~manual_bp.explain.Explanation` is shown."""

from __future__ import annotations

from importlib import import_module

from manual_bp.explain.explanation import Explanation

__all__ = ["VIEWS", "render"]

VIEWS = {
    "text": "text",
    "txt": "text",
    "md": "markdown",
    "markdown": "markdown",
    "json": "as_json",
    "html": "page",
}
"""Name of a view, or ending of a file, to the module here that writes it."""


def render(explanation: Explanation, view: str, precision: int = 4) -> str:
    """Write an explanation in one of the forms.

    Args:
        explanation: What is shown.
        view: One of :data:`VIEWS`.
        precision: Significant digits of a number, where the view is for people.

    Raises:
        ValueError: For another view.
    """
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}; known are {', '.join(VIEWS)}")
    module = import_module(f"manual_bp.explain.views.{VIEWS[view]}")
    return module.render(explanation, precision)
