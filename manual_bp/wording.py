"""Words that depend on what they stand by: one layer and two layers, an int and a str."""

from __future__ import annotations

__all__ = ["article", "counted"]


def counted(count: int, noun: str, form: str = "d") -> str:
    """A number of things: ``1 layer``, ``2 layers``; ``form`` is the number's format."""
    return f"{count:{form}} {noun}" if count == 1 else f"{count:{form}} {noun}s"


def article(name: str) -> str:
    """The name of a class with its article: ``an int``, ``a str``, ``an LSTM``, ``a UNet``."""
    # Capitals are spelled out: an "el" ess tee em.
    vowels = "AEFHILMNORSX" if name[:2].isupper() else "AEIOaeio"
    return f"{'an' if name[:1] in vowels else 'a'} {name}"
