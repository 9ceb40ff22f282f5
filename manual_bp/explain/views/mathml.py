"""Formulas in MathML, for a browser."""

from __future__ import annotations

import re
from html import escape

from manual_bp.explain.views.formula import BIG, GREEK, Token, parse

__all__ = ["mathml"]

# ruff: noqa: RUF001  letters and signs of mathematics are meant

_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", ":=": "≔", "-": "−", "*": "·"}
_OPENING, _CLOSING, _BREAKS = frozenset("([{"), frozenset(")]}"), frozenset("=+-")


def mathml(formula: str) -> str:
    """The formula as MathML, which browsers set by themselves.

    One span of the class "clause" for each clause, in it a row of ``<math>`` elements that may
    break before a ``=``, ``+`` or ``-`` outside of brackets, as a long line has to on a narrow
    screen. Gradients (``dx``) have the class "d", numbers the class "n", English the class "w".
    """
    clauses: list[list[list[str]]] = [[[]]]
    depth, before = 0, Token("sign", "=")
    for token in parse(formula):
        sign = token.text if token.kind == "sign" else ""
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if depth == 0 and token.space > 1:
            clauses.append([[]])
        elif depth == 0 and clauses[-1][-1] and token.space and sign in _BREAKS:
            clauses[-1].append([])
        if token.space == 1 and _is_factor(before, last=True) and _is_factor(token, last=False):
            clauses[-1][-1].append('<mspace width="0.25em"></mspace>')
        clauses[-1][-1].append(_mathml(token))
        before = token
    written = " ".join(
        '<span class="clause">'
        + " ".join(f"<math><mrow>{''.join(chunk)}</mrow></math>" for chunk in clause)
        + "</span>"
        for clause in clauses
    )
    return re.sub(r"&nbsp;(?=</mtext><mo>[),])", "", written)


def _is_factor(token: Token, last: bool) -> bool:
    """Whether a product may end, or begin, with it."""
    if token.kind == "sign":
        return token.text in (")]" if last else "([√")
    return token.kind in ("symbol", "number", "function")


def _mathml(token: Token) -> str:
    core = _mathml_core(token)
    if token.hat:
        core = f'<mover accent="true">{core}<mo stretchy="false">ˆ</mo></mover>'
    sub = "".join(map(_mathml, token.sub))
    sup = "".join(map(_mathml, token.sup))
    if sub and sup:
        return f"<msubsup>{core}<mrow>{sub}</mrow><mrow>{sup}</mrow></msubsup>"
    if sub:
        return f"<msub>{core}<mrow>{sub}</mrow></msub>"
    if sup:
        return f"<msup>{core}<mrow>{sup}</mrow></msup>"
    return core


def _mathml_core(token: Token) -> str:
    text = token.text
    if token.kind == "text":
        return f'<mtext class="w">&nbsp;{escape(text)}&nbsp;</mtext>'
    if token.kind == "sign":
        # A line may break before it; it is no sign of the number after it then.
        form = ' form="infix"' if text in _BREAKS and token.space else ""
        return f"<mo{form}>{escape(_SIGNS.get(text, text))}</mo>"
    if token.kind == "number":
        digits, _, power = text.replace("-", "−", text.startswith("-")).partition("e")
        if not power:
            return f'<mn class="n">{digits}</mn>'
        power = str(int(power)).replace("-", "−")
        tens = f"<msup><mn>10</mn><mn>{power}</mn></msup>"
        return f'<mrow><mn class="n">{digits}</mn><mo>·</mo>{tens}</mrow>'
    if token.kind == "function":
        if text in BIG:
            return f"<mo>{BIG[text]}</mo>"
        return f'<mi mathvariant="normal">{escape(text)}</mi><mspace width="0.15em"></mspace>'
    name = text.rstrip("'")
    primes = "′" * (len(text) - len(name))
    if name.startswith("d") and len(name) > 1 and name != "delta":
        rest = GREEK.get(name[1:], name[1:])
        inner = f'<mi mathvariant="normal">d</mi><mi>{escape(rest)}{primes}</mi>'
        return f'<mrow class="d">{inner}</mrow>'
    if name.startswith("∂"):
        return f"<mrow><mo>∂</mo><mi>{escape(name[1:])}{primes}</mi></mrow>"
    return f"<mi>{escape(GREEK.get(name, name))}{primes}</mi>"
