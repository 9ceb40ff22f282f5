"""Formulas in LaTeX, for Markdown."""

from __future__ import annotations

import re

from manual_bp.explain.views.formula import BIG, GREEK, Token, parse

__all__ = ["latex"]


def latex(formula: str) -> str:
    """The formula in LaTeX, without dollars."""
    written = "".join(_latex(token) for token in parse(formula)).strip()
    return re.sub(r" \}(?=[),]|$)", "}", written)  # no space between a word and what closes it


def _latex(token: Token) -> str:
    core = _latex_core(token)
    if token.hat:
        core = rf"\hat{{{core}}}"
    if token.sub:
        core += "_{" + "".join(map(_latex, token.sub)).strip() + "}"
    if token.sup:
        core += "^{" + "".join(map(_latex, token.sup)).strip() + "}"
    return ("\\quad " if token.space > 1 else " " if token.space else "") + core


def _latex_core(token: Token) -> str:
    text = token.text.rstrip("'")
    primes = "'" * (len(token.text) - len(text))
    if token.kind == "text":
        return rf"\text{{ {token.text} }}"
    if token.kind == "sign":
        names = {
            "<=": r"\le",
            ">=": r"\ge",
            "!=": r"\ne",
            "*": r"\cdot",
            "...": r"\ldots",
            "√": r"\surd ",
        }
        return names.get(text, {"{": r"\{", "}": r"\}", "%": r"\%"}.get(text, text))
    if token.kind == "function":
        if text in BIG:
            return {"sum": r"\sum", "prod": r"\prod"}.get(text, r"\int")
        return rf"\operatorname{{{text.replace('_', chr(92) + '_')}}}"
    if token.kind == "number":
        digits, _, power = text.partition("e")
        return rf"{digits} \cdot 10^{{{int(power)}}}" if power else text
    if text.startswith("d") and len(text) > 1 and text != "delta":
        return rf"\mathrm{{d}}{_latex_name(text[1:])}{primes}"
    return _latex_name(text) + primes


def _latex_name(name: str) -> str:
    if name in GREEK:
        return {"eps": r"\varepsilon", "lam": r"\lambda"}.get(name, rf"\{name}")
    if len(name) == 1:
        return name.replace("∂", r"\partial ")
    return rf"\partial {name[1:]}" if name.startswith("∂") else rf"\mathit{{{name}}}"
