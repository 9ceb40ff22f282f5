"""Hyperparameters as plain data."""

from functools import partial
from typing import Any


def described(value: Any) -> dict[str, Any] | None:
    """Describe a class, or a partial call of one, in LightningCLI's ``class_path`` form.

    A checkpoint then holds data instead of pickled code: it loads with ``weights_only=True``, and
    ``load_from_checkpoint`` rebuilds the object.

    Args:
        value: A class, or ``functools.partial(cls, name=value, ...)``.

    Returns:
        ``{"class_path": ..., "init_args": {...}}``, or None when the value is something else,
        such as a lambda, or has arguments that are not plain data.
    """
    keywords: dict[str, Any] = {}
    if isinstance(value, partial):
        keywords = dict(value.keywords)
        # A plain partial calls the class; jsonargparse's calls a helper with the class as its
        # last argument.
        called = (*value.args, value.func) if not value.args else value.args
        value = called[-1]
    if not isinstance(value, type) or not _plain(keywords):
        return None
    return {"class_path": f"{value.__module__}.{value.__qualname__}", "init_args": keywords}


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
